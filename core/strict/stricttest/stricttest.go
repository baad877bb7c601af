// Package stricttest holds a JSON Schema, which editors read, against the
// reader in Go that decides.
package stricttest

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema compiles a schema.
func Schema(t testing.TB, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Validate holds a YAML text against a schema.
func Validate(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

var known = regexp.MustCompile(`known are ([^)]*)\)`)

// SameKeys holds the properties of an object of the schema against the keys
// that the reader knows there. at is a JSON pointer to it; text is a file in
// which QQQQQQ stands for a key of that object; read is the reader; less are
// keys that it knows only to refuse them.
func SameKeys(t testing.TB, schema []byte, at, text string, read func(string) error, less ...string) {
	t.Helper()
	var doc any
	if err := json.Unmarshal(schema, &doc); err != nil {
		t.Fatal(err)
	}
	for _, step := range strings.Split(strings.Trim(at, "/"), "/") {
		if m, ok := doc.(map[string]any); ok && step != "" {
			doc = m[step]
		}
	}
	m, ok := doc.(map[string]any)
	if !ok {
		t.Fatalf("the schema has nothing at %q", at)
	}
	properties, _ := m["properties"].(map[string]any)
	have := slices.Sorted(maps.Keys(properties))
	err := read(strings.Replace(text, "QQQQQQ", "QQQQQQQQQQQQQQ", 1))
	if err == nil {
		t.Fatalf("%s: an unknown key is taken", at)
	}
	var want []string
	if found := known.FindStringSubmatch(err.Error()); found != nil {
		want = slices.DeleteFunc(strings.Split(found[1], ", "), func(k string) bool { return slices.Contains(less, k) })
	}
	if !slices.Equal(have, want) {
		t.Errorf("%s: the schema has %v, the reader knows %v", at, have, want)
	}
}

// Described holds a page against a schema: each key stands in it, as code.
func Described(t *testing.T, schema []byte, page string) {
	t.Helper()
	var root any
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	code := strings.Join(regexp.MustCompile("`[^`]*`").FindAllString(page, -1), "\n")
	keys := map[string]bool{}
	gather(root, keys)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !regexp.MustCompile(`\b` + key + `\b`).MatchString(code) {
			t.Errorf("no word of %s", key)
		}
	}
	if len(keys) < 20 {
		t.Errorf("only %d keys are seen", len(keys))
	}
}

func gather(in any, keys map[string]bool) {
	switch in := in.(type) {
	case map[string]any:
		for name, of := range in {
			if properties, ok := of.(map[string]any); ok && name == "properties" {
				for key := range properties {
					keys[key] = true
				}
			}
			gather(of, keys)
		}
	case []any:
		for _, of := range in {
			gather(of, keys)
		}
	}
}
