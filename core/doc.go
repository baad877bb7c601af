// Package core is the map of the gateway. A client's byte meets, in this order:
//
//	server      listeners; builds a Generation from configuration and swaps it
//	door        bounds who is not yet known
//	protocol/*  bytes -> command; speaks to client and upstream
//	loop        carries the bytes of many connections with few system calls
//	sql         PostgreSQL text -> operations and column lineage
//	shell       the text of a command on a host -> operations
//	gate        the waist: Open, Dial, Submit, Result, Done
//	wasm        runs the guards that decide
//	approval    keeps what waits for people, and counts what they say
//	audit       writes the verdict down before a byte goes upstream
//	mask        what stands in the place of a masked cell on its way back
//	record      keeps what the client saw
//
// Beside the path stand auth (who), catalog (what a task lists; it checks the files
// by the rules of plugins/tasks, the guard that decides by them), grants (a task as
// a role of the database), config (gateway.yaml), strict (YAML whose faults have a
// line), store (rows) and devidp (an identity provider to try things with).
// arch_test.go holds the arrows between them.
package core
