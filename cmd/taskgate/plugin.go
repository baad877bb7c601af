package main

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/core/wasm/build"
	"github.com/taskgate/taskgate/internal/count"
	"github.com/taskgate/taskgate/sdk/guardtest"
)

func pluginCommand() *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "write and build guards of your own",
		Long:        "A guard is a WebAssembly module that the gateway asks about every command. `new` writes one in Go, `build` compiles it (with Go, whose newest release it may fetch), `test` holds it to what every guard owes; then gateway.yaml names it under `plugins`, and `taskgate reload` loads it.",
		Annotations: map[string]string{away: "yes"}}
	out := ""
	make := &cobra.Command{Use: "build DIR", Short: "build a guard written in Go, with its manifest.json inside", Args: words,
		Long: "Compiles the Go program in DIR to DIR/NAME.wasm, NAME being that of the directory, and puts DIR/manifest.json inside. It needs the go command.", RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				m, err := compiled(args[0], out)
				if err != nil {
					return err
				}
				return print(m)
			}
			return buildPlugin(args[0], out)
		}}
	config, tasks := "", []string{}
	test := &cobra.Command{Use: "test FILE", Short: "hold a module to what every guard owes, in the gateway's sandbox", Args: words,
		Long: "Asks a module, or the one that `taskgate plugin build` has left in a directory, as the gateway would, and prints each law that it breaks: it answers, in time and memory, the same to the same, and what nonsense is said to it changes nothing. Status 1 where one is broken.", RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, _ := cmd.Flags().GetBool("json")
			return testPlugin(args[0], config, tasks, asJSON)
		}}
	test.Flags().StringVar(&config, "config", "", "the guard's configuration, as JSON")
	test.Flags().StringSliceVar(&tasks, "task", nil, "a task that the guard knows")
	checkout := ""
	fresh := &cobra.Command{Use: "new DIR", Short: "write the beginnings of a guard", Args: words,
		Long:    "Writes main.go, main_test.go and manifest.json of a guard into DIR. Outside of a Go module it writes a module too, which needs the source of taskgate: --taskgate.",
		Example: "  taskgate plugin new guards/mine\n  taskgate plugin build guards/mine\n  taskgate plugin test guards/mine",
		RunE: func(_ *cobra.Command, args []string) error {
			return newPlugin(args[0], checkout)
		}}
	fresh.Flags().StringVar(&checkout, "taskgate", "", "a checkout of taskgate to build against, outside of any Go module")
	make.Flags().StringVarP(&out, "output", "o", "", "the module's file, if not NAME.wasm in the directory")
	asJSON := false
	look := &cobra.Command{Use: "inspect FILE", Short: "what a module asks for, and what it really imports", Args: words,
		Long: "Says of a module what its manifest asks for and what it imports, without running it. Or of the one that `taskgate plugin build` has left in a directory.",
		RunE: func(_ *cobra.Command, args []string) error {
			return inspect(args[0], asJSON)
		}}
	look.Flags().BoolVar(&asJSON, "json", false, "for programs")
	test.Flags().Bool("json", false, "for programs")
	make.Flags().Bool("json", false, "for programs")
	c.AddCommand(fresh, make, test, look)
	return c
}

// compiledModule is what `taskgate plugin build` has made.
type compiledModule struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func compiled(dir, out string) (m compiledModule, err error) {
	m.File, err = build.Guard(dir, out)
	if errors.Is(err, fs.ErrNotExist) {
		return m, hinted{err, "a guard needs a manifest.json: `taskgate plugin new` writes one"}
	}
	if err != nil {
		return m, err
	}
	b, err := os.ReadFile(m.File)
	m.Bytes, m.SHA256 = len(b), fmt.Sprintf("%x", sha256.Sum256(b))
	return m, err
}

func buildPlugin(dir, out string) error {
	m, err := compiled(dir, out)
	if err == nil {
		fmt.Printf("%s: %s, sha256 %s\n", m.File, count.Of(m.Bytes, "byte"), m.SHA256)
	}
	return err
}

// inspect shows a module that nobody has trusted yet: nothing of it is run, and
// what it says of itself is printed so that it cannot do anything to a terminal.
func inspect(path string, asJSON bool) error {
	path, err := module(path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := wasm.ReadManifest(b)
	if err != nil {
		return fmt.Errorf("%s: %s", path, record.Escape(err.Error()))
	}
	imports, err := m.Imports(b)
	if asJSON {
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		err = errors.Join(print(struct {
			*wasm.Manifest
			SHA256  string   `json:"sha256"`
			Imports []string `json:"imports"`
			Fault   string   `json:"fault,omitempty"` // why the gateway would not load it
		}{m, fmt.Sprintf("%x", sha256.Sum256(b)), imports, fault}), err)
	}
	if asJSON || imports == nil {
		if err != nil {
			return fmt.Errorf("%s: %s", path, record.Escape(err.Error()))
		}
		return nil
	}
	fmt.Printf("name      %s %s\nsha256    %x\nabi       %d.%d\nhooks     %s\ninputs    %s\n", m.Name, record.Escape(m.Version), sha256.Sum256(b), m.ABI.Major, m.ABI.MinMinor, strings.Join(m.Hooks, ", "), strings.Join(m.Inputs, ", "))
	for _, s := range m.Skip {
		protocol, verbs := s.Protocol, strings.Join(s.Verbs, ", ")
		if protocol == "" {
			protocol = "every protocol"
		}
		if verbs == "" {
			verbs = "all verbs it knows"
		}
		fmt.Printf("skips     %s: %s\n", record.Escape(protocol), verbs)
	}
	for _, c := range m.Capabilities {
		fmt.Printf("asks for  %s: %s\n", c.Name, record.Escape(c.Reason))
	}
	for _, h := range m.Hooks {
		if h == "result_schema" || h == "result_batch" {
			fmt.Printf("asks for  may: [mask]: %s is shown results\n", h)
		}
	}
	for _, im := range imports {
		fmt.Printf("imports   %s\n", record.Escape(im))
	}
	if err != nil {
		return fmt.Errorf("%s: the gateway would not load it: %s", path, record.Escape(err.Error()))
	}
	return nil
}

// report is a guardtest.T that prints, or keeps what it would.
type report struct {
	quiet  bool
	broken []string
}

func (r *report) Helper() {}
func (r *report) Errorf(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
	if !r.quiet {
		fmt.Println("broken: " + r.broken[len(r.broken)-1])
	}
}

// newerThan gives a source beside a module that was changed after it was built.
func newerThan(module string) string {
	built, err := os.Stat(module)
	if err != nil {
		return ""
	}
	for _, pattern := range []string{"*.go", "manifest.json"} {
		sources, _ := filepath.Glob(filepath.Join(filepath.Dir(module), pattern))
		for _, s := range sources {
			if st, err := os.Stat(s); err == nil && st.ModTime().After(built.ModTime()) && !strings.HasSuffix(s, "_test.go") {
				return s
			}
		}
	}
	return ""
}

func testPlugin(file, config string, tasks []string, asJSON bool) error {
	var with any
	if config != "" {
		if err := json.Unmarshal([]byte(config), &with); err != nil {
			return hinted{fmt.Errorf("--config: %q is no JSON", config), `as --config '{"frozen": true}'`}
		}
	}
	file, err := module(file)
	if err != nil {
		return err
	}
	if newer := newerThan(file); newer != "" {
		fmt.Fprintf(os.Stderr, "taskgate: %s is older than %s: what is tested was built before it (`taskgate plugin build`)\n", file, newer)
	}
	cache, err := os.MkdirTemp("", "taskgate-plugin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	g, end, err := guardtest.Open(file, cache, with)
	if err != nil {
		return err
	}
	defer end()
	r := &report{quiet: asJSON, broken: []string{}}
	guardtest.Laws(r, g, tasks)
	if asJSON {
		err = print(map[string]any{"guard": g.Name(), "ok": len(r.broken) == 0, "broken": r.broken})
	}
	if len(r.broken) > 0 {
		return errors.Join(err, errQuiet)
	}
	if asJSON {
		return err
	}
	fmt.Printf("ok: %s keeps the laws of a guard\n", g.Name())
	return nil
}

// module gives the file of a module: of a directory the one that `plugin build`
// leaves there.
func module(path string) (string, error) {
	const hint = "`taskgate plugin build DIR` makes one"
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", hinted{fmt.Errorf("there is no %s", path), hint}
	} else if err != nil || !st.IsDir() {
		return path, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file := filepath.Join(path, filepath.Base(abs)+".wasm")
	if !isFile(file) {
		return "", hinted{fmt.Errorf("%s is a directory, without %s in it", path, filepath.Base(file)), "`taskgate plugin build " + path + "` makes it; a module of another name is named itself"}
	}
	return file, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

//go:embed template
var template embed.FS

// newPlugin writes the beginnings of a guard. Outside of any Go module it
// writes a module too, that requires the taskgate which this binary is.
func newPlugin(dir, checkout string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	name := filepath.Base(abs)
	files := map[string]string{}
	for _, file := range []string{"main.go", "main_test.go", "manifest.json"} {
		b, err := template.ReadFile("template/" + file + ".txt")
		if err != nil {
			return err
		}
		files[file] = strings.ReplaceAll(string(b), "NAME", name)
	}
	inside := false
	for d := abs; !inside && d != filepath.Dir(d); d = filepath.Dir(d) {
		_, err := os.Stat(filepath.Join(d, "go.mod"))
		inside = err == nil
	}
	if !inside {
		if files["go.mod"], err = goMod(name, checkout); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for file, text := range files {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return hinted{err, "nothing is written over: name a directory that is not there yet"}
		}
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	if !inside {
		cmd := exec.Command("go", "mod", "tidy")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return hinted{errors.New("go mod tidy failed"), "the files are written: mend " + filepath.Join(dir, "go.mod")}
		}
	}
	fmt.Printf("wrote %s: build it with `taskgate plugin build %s`, test it with `cd %s && go test`\n", dir, dir, dir)
	return nil
}

func goMod(name, checkout string) (string, error) {
	const module = "github.com/taskgate/taskgate"
	info, ok := debug.ReadBuildInfo()
	if checkout == "" && (!ok || !strings.HasPrefix(info.Main.Version, "v") || strings.HasPrefix(info.Main.Version, "v0.0.0-") || strings.Contains(info.Main.Version, "+dirty")) {
		return "", hinted{errors.New("outside of any Go module, and this taskgate is no released one that a module could require"),
			"name its source with --taskgate DIR, or write the guard inside that tree"}
	}
	text := "module " + name + "\n\ngo 1.26\n\n"
	if checkout == "" {
		return text + "require " + module + " " + info.Main.Version + "\n", nil
	}
	abs, err := filepath.Abs(checkout)
	if err != nil {
		return "", err
	}
	return text + "require " + module + " v0.0.0\n\nreplace " + module + " => " + strconv.Quote(abs) + "\n", nil
}
