// Package guardtest tests guards as the gateway runs them: Build and Load put
// a module into the gateway's own sandbox, Laws holds it to what every guard
// owes, Command and its kin write the commands to ask it about.
package guardtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/core/wasm/build"
)

// Build builds the guard in dir and loads it.
func Build(t testing.TB, dir string, config any) gate.Guard {
	t.Helper()
	file, err := build.Guard(dir, filepath.Join(t.TempDir(), "guard.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return Load(t, file, config)
}

// Load puts a module into the sandbox, with all that an operator may grant.
// config is what gateway.yaml would have under config; nil is nothing.
func Load(t testing.TB, file string, config any) gate.Guard {
	t.Helper()
	g, end, err := Open(file, t.TempDir(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return g
}

// Open is Load without a test. cache is a directory for compiled code; end
// lets go of everything.
func Open(file, cache string, config any) (g gate.Guard, end func(), err error) {
	src := wasm.Source{Name: strings.TrimSuffix(filepath.Base(file), ".wasm"), Path: file, Isolation: "task", May: abi.May{Allow: true, Review: true, Mask: true}}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	m, err := wasm.ReadManifest(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, c := range m.Capabilities {
		src.Capabilities = append(src.Capabilities, c.Name)
	}
	if config != nil {
		if src.Config, err = json.Marshal(config); err != nil {
			return nil, nil, err
		}
	}
	host, err := wasm.Open(cache)
	if err != nil {
		return nil, nil, err
	}
	set, err := host.Load(context.Background(), []wasm.Source{src})
	if err != nil {
		_ = host.Close()
		return nil, nil, err
	}
	return set.Guards()[0], func() { _ = set.Close(); _ = host.Close() }, nil
}

// Command is somebody doing operations for a task, at the resource shop.
func Command(task string, operations ...abi.Operation) *abi.Command {
	return &abi.Command{Phase: abi.Execute,
		Session:   &abi.Session{ID: "s1", Subject: "ada", Task: task, Resource: "shop", Protocol: "postgres", Groups: []string{"task:" + task}},
		Statement: &abi.Statement{Protocol: "postgres", Text: "a text", Operations: operations}}
}

// Relation is an operation on a table, "schema.name", and its columns. All but
// select write.
func Relation(verb, table string, columns ...string) abi.Operation {
	o := abi.Operation{Verb: verb, Kind: abi.KindRelation, Object: strings.Split(table, "."), Effect: abi.EffectWrite}
	use := abi.UseWritten
	if verb == "select" {
		o.Effect, use = abi.EffectRead, abi.UseCopied
	}
	for _, c := range columns {
		o.Columns = append(o.Columns, abi.Column{Name: c, Use: use})
	}
	return o
}

// Call is the call of a function, "schema.name".
func Call(function string) abi.Operation {
	return abi.Operation{Verb: "call", Kind: abi.KindFunction, Object: strings.Split(function, "."), Effect: abi.EffectWrite}
}

// Ask gives the guard's verdict; an error of the sandbox fails the test.
func Ask(t testing.TB, g gate.Guard, c *abi.Command) *abi.Verdict {
	t.Helper()
	v, err := g.Command(context.Background(), c)
	if err != nil {
		t.Fatalf("%s: %v", g.Name(), err)
	}
	return v
}

// Plan gives the guard's plan for a result of those columns.
func Plan(t testing.TB, g gate.Guard, columns ...abi.ResultColumn) *abi.MaskPlan {
	t.Helper()
	p, err := g.ResultSchema(context.Background(), Command("look"), &abi.ResultSchema{Columns: columns})
	if err != nil {
		t.Fatalf("%s: %v", g.Name(), err)
	}
	return p
}

// Mask gives what the guard makes of the cells of a column that it calls CUSTOM.
// nil is NULL.
func Mask(t testing.TB, g gate.Guard, column abi.BatchColumn, cells ...[]byte) [][]byte {
	t.Helper()
	b := batch(column, cells)
	out, err := g.ResultBatch(context.Background(), Command("look").Session, b)
	if err != nil {
		t.Fatalf("%s: %v", g.Name(), err)
	}
	if !out.Fits(b) {
		t.Fatalf("%s does not answer with the rows, columns, types and formats that it was asked, or with too much", g.Name())
	}
	return answers(out)
}

func batch(column abi.BatchColumn, cells [][]byte) *abi.Batch {
	column.Reset()
	for _, cell := range cells {
		column.Add(cell, cell == nil)
	}
	return &abi.Batch{Rows: len(cells), Columns: []abi.BatchColumn{column}}
}

// answers are the cells of a batch of one column.
func answers(b *abi.Batch) [][]byte {
	list := make([][]byte, b.Rows)
	for i := range list {
		if cell, ok := b.Columns[0].Cell(i); ok {
			list[i] = append([]byte{}, cell...)
		}
	}
	return list
}

// Approval gives what the guard says of a request of ada's for which all
// requirements are met by what these people have said.
func Approval(t testing.TB, g gate.Guard, voices ...abi.Voice) *abi.Verdict {
	t.Helper()
	v, err := g.Approval(context.Background(), &abi.Approval{ID: "r1", Session: Command("look").Session, Voices: voices, Met: true})
	if err != nil {
		t.Fatalf("%s: %v", g.Name(), err)
	}
	return v
}
