package abi

// VerbMinor gives the minor version of the ABI with which a verb came, and
// whether there is such a verb. Statements that a protocol names by their own
// words ("drop table") are none: no module can know them all.
func VerbMinor(verb string) (minor int, known bool) {
	switch verb {
	case "select", "insert", "update", "delete", "merge", "truncate", "lock", "call", "test",
		"begin", "commit", "rollback", "savepoint", "release", "rollback to", "set constraints",
		"set", "reset", "show", "listen", "notify", "unlisten", "deallocate", "close", "discard all", "discard plans":
		return 0, true
	case "exec", "subsystem", "shell", "stat", "list", "read", "write", "remove", "rename", "mkdir", "setstat", "link", "persist", "connect", "bind", "setenv", "signal", "forward":
		return 1, true
	case "create_table", "alter_table", "drop_table", "create_index", "drop_index", "create_view", "drop_view", "create_sequence", "alter_sequence", "drop_sequence",
		"create_schema", "drop_schema", "create_type", "alter_type", "drop_type", "create_function", "drop_function", "comment":
		return 2, true
	case "analyze", "vacuum", "reindex", "cluster":
		return 3, true
	}
	return 0, false
}

// KindMinor is VerbMinor for the kinds of objects.
func KindMinor(kind string) (minor int, known bool) {
	switch kind {
	case KindRelation, KindFunction, KindSetting, KindTransaction, KindStatement, KindChannel, KindSystem:
		return 0, true
	case KindProgram, KindTerminal, KindOpaque, KindFile, KindForward, KindEnvironment, KindSignal, KindAgent, KindX11:
		return 1, true
	case KindSchema, KindType, KindRoutine:
		return 2, true
	}
	return 0, false
}
