package abi

// Hook is the number of an entry into a module. The numbers are frozen.
type Hook uint32

// The hooks of ABI version 1.
const (
	HookConfigure    Hook = 1
	HookDrain        Hook = 2
	HookSessionOpen  Hook = 3
	HookSessionClose Hook = 4
	HookCommand      Hook = 5
	HookResultSchema Hook = 6
	HookResultBatch  Hook = 7
	HookApproval     Hook = 8
)

// Status is the low word of a reply without bytes; anything else reads as
// StatusInternal.
type Status uint32

// The statuses of ABI version 1.
const (
	StatusNothing        Status = 0 // nothing to say
	StatusNotImplemented Status = 1
	StatusBadInput       Status = 2
	StatusInternal       Status = 3
	StatusNoResources    Status = 4
)

// Inputs are the parts of a Command that a module asks to be sent. What it did
// not ask for it does not get, and so its verdict cannot depend on it.
type Inputs uint32

// The inputs of ABI version 1, by the bit they set.
const (
	InputSession    Inputs = 1 << iota // id, issuer, subject, groups, address
	InputTask                          // task, resource, login
	InputText                          // the text as sent and its fingerprint
	InputOperations                    // operations and what is incomplete
	InputOutputs                       // lineage of the outputs
	InputParams                        // bound parameters
	InputTime                          // when the command came
	InputInput                         // digest, size and head of an input stream
)

// InputNames gives each input its word in a manifest.
var InputNames = []struct {
	Word string
	Bit  Inputs
}{
	{"session", InputSession}, {"task", InputTask}, {"text", InputText}, {"operations", InputOperations},
	{"outputs", InputOutputs}, {"params", InputParams}, {"time", InputTime}, {"input", InputInput},
}
