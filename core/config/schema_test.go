package config

import (
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/strict/stricttest"
)

// TestSchema: the schema for editors and the reader agree.
func TestSchema(t *testing.T) {
	read := func(text string) error { _, err := Parse("gateway.yaml", []byte(text)); return err }
	for at, text := range map[string]string{
		"":                               "QQQQQQ: 1\n",
		"/$defs/listener":                "listeners: {api: {QQQQQQ: 1}}\n",
		"/$defs/listener/properties/tls": "listeners: {api: {tls: {QQQQQQ: 1}}}\n",
		"/properties/issuers/items":      "issuers: [{QQQQQQ: 1}]\n",
		"/properties/resources/additionalProperties":                                        "resources: {a: {QQQQQQ: 1}}\n",
		"/properties/resources/additionalProperties/properties/logins/additionalProperties": "resources: {a: {logins: {b: {QQQQQQ: 1}}}}\n",
		"/properties/issuers/items/properties/roles":                                        "issuers: [{roles: {QQQQQQ: 1}}]\n",
		"/properties/approvals":                                                             "approvals: {QQQQQQ: 1}\n",
		"/properties/approvals/properties/webhooks/items":                                   "approvals: {webhooks: [{QQQQQQ: 1}]}\n",
		"/properties/approvals/properties/webhooks/items/properties/actions":                "approvals: {webhooks: [{actions: {QQQQQQ: 1}}]}\n",
		"/properties/plugins/items":                                                         "plugins: [{QQQQQQ: 1}]\n",
		"/properties/audit":                                                                 "audit: {QQQQQQ: 1}\n",
		"/properties/record":                                                                "record: {QQQQQQ: 1}\n",
	} {
		stricttest.SameKeys(t, Schema, at, text, read)
	}
	stricttest.SameKeys(t, Schema, "/properties/listeners", "listeners: {QQQQQQ: 1}\n", read, "kube")
	stricttest.SameKeys(t, Schema, "/properties/listeners/properties/ssh", "listeners: {ssh: {QQQQQQ: 1}}\n", read, "tls", "plain", "loop")
	s := stricttest.Schema(t, Schema)
	b, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := stricttest.Validate(t, s, string(b)); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{"env:SHOP_PASSWORD": "hunter2", "tls: disable": "tls: prefer", "sync: writes": "sync: never", "client_id: taskgate": "client_id: ''", "http://127.0.0.1:5556": "http://idp.example"} {
		if text := strings.Replace(string(b), from, to, 1); stricttest.Validate(t, s, text) == nil || read(text) == nil {
			t.Errorf("%s: the schema says %v, the reader %v", to, stricttest.Validate(t, s, text), read(text))
		}
	}
}

// TestKeysAreDescribed: the operator's page has every key of gateway.yaml.
func TestKeysAreDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "## gateway.yaml, key by key\n")
	text, _, ended := strings.Cut(text, "\n## ")
	if !found || !ended {
		t.Fatal("the page has no such part")
	}
	stricttest.Described(t, Schema, text)
}
