// Package postgres speaks PostgreSQL's frontend/backend protocol, versions 3.0
// to 3.2, to a client and to its upstream. A client's byte goes this way:
//
//	startup.go   TLS, startup packet, token, (*gate.Gate).Open
//	upstream.go  (*gate.Session).Dial, TLS, SCRAM
//	frame.go     whole messages out of what was read
//	client.go    message -> command -> Submit -> upstream
//	extended.go  the same for Parse, Bind, Describe, Execute, Close
//	script.go    the same for a Query whose statements are judged one by one
//	queue.go     what the client has been promised, in order
//	server.go    answer -> Result -> client
//	outcome.go   what became of a command, once its transaction has ended
//	mask.go, copymask.go   rows and copy data, with what is masked rewritten
//	drift.go     answers held against the schema, tasks that are closed
//	refuse.go    refusals, errors and notices in PostgreSQL's words
//	pace.go      how quickly a server may say what nobody asked for
//	cancel.go    cancel requests, with keys of the gateway's own
//	understand.go, names.go   what a text means in its session
//	look.go      the schema of a resource, looked at for all its sessions
//	readback.go  the session's settings, after a function that may do anything
//
// References are to the PostgreSQL documentation, part "Frontend/Backend
// Protocol".
package postgres
