package catalog

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/strict/stricttest"
)

// TestSchema: the schema for editors and the reader agree, on the keys of
// every object and on what is right and wrong.
func TestSchema(t *testing.T) {
	read := func(text string) error { _, err := load(t, map[string]string{"x.yaml": text}); return err }
	less := slices.Collect(maps.Keys(later))
	const rule = "task: x\nresources: [r]\nallow:\n  - {QQQQQQ: 1, verbs: [select], tables: [a.b], columns: [c]}\n"
	stricttest.SameKeys(t, Schema, "", "QQQQQQ: 1\n", read, append(slices.Clone(less), hostFields...)...)
	stricttest.SameKeys(t, Schema, "/properties/limits", "limits: {QQQQQQ: 1}\n", read)
	stricttest.SameKeys(t, Schema, "/$defs/column", "mask: [{QQQQQQ: 1}]\n", read)
	stricttest.SameKeys(t, Schema, "/$defs/text", "allow: [{exec: [[a]]}]\nmask: [{QQQQQQ: 1}]\n", read, "column")
	stricttest.SameKeys(t, Schema, "/$defs/rule", rule, read, append(less, "mask", "oracle", "blind", "filter")...)
	stricttest.SameKeys(t, Schema, "/$defs/ddl", "task: x\nresources: [r]\nallow:\n  - ddl: [{QQQQQQ: 1, verbs: [comment], in: [a.b]}]\n", read)
	stricttest.SameKeys(t, Schema, "/$defs/rule/properties/files", strings.Replace(rule, "QQQQQQ: 1, verbs: [select], tables: [a.b], columns: [c]", "files: {QQQQQQ: 1}", 1), read)
	stricttest.SameKeys(t, Schema, "/$defs/rule/properties/rsync", strings.Replace(rule, "QQQQQQ: 1, verbs: [select], tables: [a.b], columns: [c]", "rsync: {QQQQQQ: 1}", 1), read)
	stricttest.SameKeys(t, Schema, "/$defs/rule/properties/by", strings.Replace(strings.Replace(rule, "allow", "review", 1), "QQQQQQ: 1", "by: {QQQQQQ: 1, groups: [a]}", 1), read)

	s := stricttest.Schema(t, Schema)
	shipped, err := filepath.Glob("../../examples/catalogs/*/*.yaml")
	if err != nil || len(shipped) == 0 {
		t.Fatal(err)
	}
	texts := []string{good, masked, finding, host, hiding, migrating}
	for _, file := range shipped {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	for _, text := range texts {
		if err := stricttest.Validate(t, s, text); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	for from, to := range map[string]string{"[create_table, alter_table]": "[create_tabel]", "in: [public.*]": "in: ['*']", "in: [public.orders]": "in: []", "in: [app]": "of: [app]", "ddl: [{verbs: [drop_table]": "rows: 3, ddl: [{verbs: [drop_table]", "task: x": "task: X!", "verbs: [select]": "verbs: [selct]", "columns: [id, status]": "columns: ['*']", "session: 4h": "session: 4",
		"tables: [public.orders]": "tables: [orders]", "by: {groups: [dba], people: 1, within: 15m}": "rows: 1", "resources: [shop]\n": "", "where: key": "where: id",
		"with: bucket(10)": "with: bukcet(10)", "public.customers.email": "customers.email", "nulls: show": "nulls: shown", "filter: eq": "filter: like", "oracle: accept": "oracle: ok", "rows: 3": "rows: 0",
		"on_hold: keep": "on_hold: wait", "payload: unseen": "payload: seen", "justify: true": "justify: please", "with: 'null', ": "",
		"[uptime]": "uptime", "[uptime] ": "[]", "uptime": "up*", "restart": "' restart'", "web-*]": "web-**]", "read:": "raed:", "[/var/log/web/**": "[var/log", "/etc/hostname]": "/etc/]", "/srv/app/**]": "/srv/../app]",
		"/srv/app/*.conf": "/srv/**.conf", "authorized_keys": "*", "stdin: allow": "stdin: yes please", "stdin: allow}": "tables: [a.b]}", "db-1:5432": "db-1", "'[::1]:8080'": "'db-*:1'", "'*:0'": "0", "LC_*": "LC-*", "TERM": "TREM",
		"agent: allow": "agent: deny", "x11: allow": "x11: allow, agent: allow", "shell: command": "shell: yes please", "opaque: allow": "stdin: allow", "field: 2": "field: 0", "lines: ": "line: ", "with: fixed": "with: fix", "exec: [[id]], field": "field", "field: 2, ": "", "rsync: {read: [/srv/app]": "rsync: {raed: [/srv/app]", "write: [/srv/app, /srv/in]": "write: [/srv/*, /srv/app, /srv/in]", "write: [/srv/app, /srv": "write: [/, /srv/app, /srv", "rsync: {read: [/srv/app], w": "stdin: allow, rsync: {read: [/srv/app], w", "signals: [": "on_hold: keep, signals: [", "env: [": "env: [], forward: ["} {
		text := host
		for _, t := range []string{host, masked, good, hiding, migrating, finding} {
			if strings.Contains(t, from) {
				text = strings.Replace(t, from, to, 1)
			}
		}
		if text == host || stricttest.Validate(t, s, text) == nil || read(text) == nil {
			t.Errorf("%s: the schema says %v, the reader %v", to, stricttest.Validate(t, s, text), read(text))
		}
	}
}

// TestKeysAreDescribed: the page on task files has every key of them.
func TestKeysAreDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	stricttest.Described(t, Schema, string(page))
}
