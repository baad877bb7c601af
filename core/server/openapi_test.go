package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document is openapi.yaml, to hold answers against.
type document struct {
	t        testing.TB
	all      map[string]any
	compiler *jsonschema.Compiler
	had      map[string]*jsonschema.Schema
}

func newDocument(t testing.TB) *document {
	t.Helper()
	b, err := yaml.YAMLToJSON(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{t, doc.(map[string]any), jsonschema.NewCompiler(), map[string]*jsonschema.Schema{}}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows a path of keys, and references on it. It gives where that has led to.
func (d *document) at(keys ...string) (any, string) {
	var v any = d.all
	pointer := ""
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, ""
		}
		if v = m[k]; v == nil {
			return nil, ""
		}
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
		if m, ok := v.(map[string]any); ok && m["$ref"] != nil {
			pointer = strings.TrimPrefix(m["$ref"].(string), "#")
			v, _ = d.at(strings.Split(pointer[1:], "/")...)
		}
	}
	return v, pointer
}

// schema gives that of an answer, or of a request where the status is 0.
func (d *document) schema(method, path string, status int, kind string) *jsonschema.Schema {
	d.t.Helper()
	keys := []string{"paths", path, strings.ToLower(method), "requestBody"}
	if status > 0 {
		keys[3] = "responses"
		keys = append(keys, fmt.Sprint(status))
		if v, _ := d.at(keys...); v == nil {
			keys[4] = "default"
		}
	}
	v, pointer := d.at(append(keys, "content", kind, "schema")...)
	if v == nil {
		d.t.Errorf("openapi.yaml: %s %s: nothing of status %d as %s", method, path, status, kind)
		return nil
	}
	s := d.had[pointer]
	if s == nil {
		var err error
		if s, err = d.compiler.Compile("openapi.json#" + pointer); err != nil {
			d.t.Fatal(err)
		}
		d.had[pointer] = s
	}
	return s
}

// holds checks an answer of a route.
func (d *document) holds(method, path string, status int, body string) {
	d.t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		d.t.Errorf("%s %s: %d is no JSON: %v: %s", method, path, status, err, body)
		return
	}
	if s := d.schema(method, path, status, "application/json"); s != nil {
		if err := s.Validate(v); err != nil {
			d.t.Errorf("openapi.yaml and %s %s (%d) differ: %v: %s", method, path, status, err, body)
		}
	}
}

// TestOpenAPI: the document has every route of the API and no other, and its
// schemas can be compiled.
func TestOpenAPI(t *testing.T) {
	d := newDocument(t)
	s := &Server{}
	s.metrics = s.newMetrics()
	mux, ok := s.api().(*http.ServeMux)
	if !ok {
		t.Fatalf("%T", s.api())
	}
	told := map[string]bool{}
	paths, _ := d.at("paths")
	for path, item := range paths.(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			route := strings.ToUpper(method) + " " + path
			told[route] = true
			told[path] = true // of a route that takes every method
			if _, got := mux.Handler(httptest.NewRequest(strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "x"), nil)); got != route && got != path {
				t.Errorf("openapi.yaml has %s, and the API has %q there", route, got)
			}
			o := op.(map[string]any)
			if o["summary"] == nil {
				t.Errorf("%s: no summary", route)
			}
			if o["requestBody"] != nil {
				d.schema(method, path, 0, "application/json")
			}
			responses, _ := d.at("paths", path, method, "responses")
			for status := range responses.(map[string]any) {
				r, _ := d.at("paths", path, method, "responses", status)
				for kind := range r.(map[string]any)["content"].(map[string]any) {
					n := 599
					if status != "default" {
						_, _ = fmt.Sscan(status, &n)
					}
					d.schema(method, path, n, kind)
				}
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "admin.go" { // that is the socket's
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`mux\.Handle(?:Func)?\("([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
			if !told[m[1]] {
				t.Errorf("openapi.yaml has no %s (%s)", m[1], name)
			}
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.yaml", nil))
	if b, err := io.ReadAll(w.Body); err != nil || string(b) != string(openAPI) {
		t.Errorf("%d %v", w.Code, err)
	}
}
