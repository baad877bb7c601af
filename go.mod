module github.com/taskgate/taskgate

go 1.26.0

require (
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/tetratelabs/wazero v1.12.0
	golang.org/x/mod v0.42.0
	golang.org/x/sys v0.49.0
)

require golang.org/x/text v0.14.0 // indirect
