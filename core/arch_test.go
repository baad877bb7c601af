package core

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/taskgate/taskgate/"

// may lists, for each package (or tree, with a trailing /...), what it may
// import from this module. A package that is not listed is a fault: name its
// place here first.
var may = map[string][]string{
	"core":                   {},
	"abi":                    {},
	"core/audit":             {"abi", "core/gate", "internal/count"},
	"core/auth":              {"abi", "core/gate", "internal/keyfile"},
	"core/devidp":            {},
	"core/door":              {},
	"core/catalog":           {"abi", "core/mask", "core/shell", "core/strict", "internal/nearest", "plugins/tasks/policy"}, // the compiled form is the guard's own type: one truth
	"core/config":            {"core/strict", "internal/nearest"},
	"core/approval":          {"abi", "core/gate"},
	"core/gate":              {"abi", "core/mask", "internal/count"},
	"core/gate/gatetest":     {"abi", "core/gate"},
	"core/protocol/postgres": {"abi", "core/door", "core/gate", "core/loop", "core/mask", "core/sql/..."},
	"core/protocol/ssh":      {"abi", "core/door", "core/gate", "core/shell", "core/protocol/ssh/sftp", "core/mask"},
	"core/protocol/ssh/sftp": {"abi", "core/gate", "core/shell", "core/mask", "internal/count"},
	"core/shell":             {"abi"},
	"core/grants":            {"abi", "core/catalog", "core/sql", "core/sql/schema", "plugins/tasks/policy", "internal/count"},
	"core/loop":              {},
	"core/mask":              {"abi", "internal/nearest"},
	"core/record":            {"core/gate", "internal/count"},
	"core/server":            {"internal/keyfile", "abi", "core/door", "core/gate", "core/config", "core/catalog", "core/wasm", "core/approval", "core/mask", "core/audit", "core/auth", "core/record", "core/store", "core/strict", "core/sql/schema", "core/protocol/...", "internal/count"},
	"core/store":             {"core/approval", "core/auth"},
	"core/store/storetest":   {"core/approval", "core/auth"},
	"core/strict":            {"internal/nearest"},
	"core/strict/stricttest": {},
	"core/sql":               {"abi", "core/sql/parse", "core/sql/schema"},
	"core/sql/parse":         {},
	"core/sql/schema":        {"abi"},
	"core/wasm":              {"abi", "core/gate", "core/wasm/meter"},
	"core/wasm/build":        {"core/wasm"},
	"core/wasm/meter":        {},
	"internal/count":         {},
	"internal/keyfile":       {},
	"internal/nearest":       {},
	"internal/sqlgen":        {},
	"internal/pgtest":        {},
	"internal/dextest":       {"internal/pgtest"},
	"internal/sshtest":       {"internal/pgtest"},
	"examples/...":           {"sdk/...", "abi", "internal/pgtest"},
	"plugins/...":            {"sdk/...", "abi", "plugins/..."},
	"cmd/...":                {"abi", "core/...", "plugins/...", "sdk/...", "internal/..."},
	"sdk/guard":              {"abi"},
	"sdk/guardtest":          {"abi", "core/gate", "core/wasm", "core/wasm/build"},
}

// only names the single tree that may import an outside module, and so where
// to look for it.
var only = map[string]string{
	"github.com/tetratelabs/wazero": "core/wasm",
	"github.com/coreos/go-oidc":     "core/auth",
	"golang.org/x/mod/sumdb/note":   "core/audit",
	"golang.org/x/oauth2":           "core/auth",
	"github.com/zitadel/oidc":       "core/devidp",
	"modernc.org/sqlite":            "core/store",
	"mvdan.cc/sh":                   "core/shell",
}

// TestArchitecture holds the arrows between packages, one package comment a
// package, and no init functions in core. It reads the files itself rather
// than asking "go list", so that the test cache sees what it depends on.
func TestArchitecture(t *testing.T) {
	docs := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n := d.Name(); d.IsDir() && (n == "testdata" || n == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		self := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../")
		docs[self] = docs[self] || f.Doc != nil
		checkImports(t, self, f)
		checkInit(t, file, self, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !docs["core"] {
		t.Error("core itself was not read: the walk looks at the wrong place")
	}
	for pkg, ok := range docs {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func checkImports(t *testing.T, self string, f *ast.File) {
	allowed, known := rules(self)
	if !known {
		t.Errorf("%s has no place in the table of arrows", self)
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", self, err)
			continue
		}
		for mod, home := range only {
			if (imp == mod || strings.HasPrefix(imp, mod+"/")) && !match(home+"/...", self) {
				t.Errorf("%s imports %s, which only %s may", self, imp, home)
			}
		}
		in, ours := strings.CutPrefix(imp, module)
		if !ours {
			continue
		}
		ok := false
		for _, p := range allowed {
			ok = ok || match(p, in)
		}
		if !ok {
			t.Errorf("%s may not import %s", self, in)
		}
	}
}

func checkInit(t *testing.T, file, self string, f *ast.File) {
	if !strings.HasPrefix(self, "core") {
		return
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s has an init function", file)
		}
	}
}

func rules(pkg string) ([]string, bool) {
	if r, ok := may[pkg]; ok {
		return r, true
	}
	for p := pkg; p != "."; p = path.Dir(p) {
		if r, ok := may[p+"/..."]; ok {
			return r, true
		}
	}
	return nil, false
}

func match(pattern, pkg string) bool {
	if pattern == pkg {
		return true
	}
	tree, ok := strings.CutSuffix(pattern, "/...")
	return ok && (pkg == tree || strings.HasPrefix(pkg, tree+"/"))
}
