module github.com/taskgate/taskgate

go 1.26
