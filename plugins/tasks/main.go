// The tasks guard decides by the catalog. Its logic is in package policy.
package main

import (
	"encoding/json"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&tasks{}) }

type tasks struct{ config policy.Config }

func (t *tasks) Configure(config []byte) error { return json.Unmarshal(config, &t.config) }

func (t *tasks) Command(c *abi.Command, v *abi.Verdict) { t.config.Judge(c, v) }

func main() {}
