package sqlgen

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

func (g *Generator) copyOut() *Step {
	options := g.pick("", " (FORMAT csv, HEADER)", " (FORMAT binary)", " (FORMAT csv, NULL 'none', FORCE_QUOTE *)", " (DELIMITER '|')", " (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '!', FORCE_QUOTE *)", " (FORMAT text, NULL 'none', HEADER)", " (ENCODING 'UTF8')", " DELIMITER ',' NULL '-' CSV HEADER", " CSV", " WITH BINARY")
	if g.odds(2) {
		text, _ := g.query(1, nil)
		if g.odds(5) {
			text = g.change()
		}
		return g.plain("copy", "COPY ("+text+") TO STDOUT"+options, true)
	}
	t := g.table()
	var names []string
	for _, c := range g.listed(t) {
		if g.odds(2) {
			names = append(names, c.name)
		}
	}
	list := ""
	if len(names) > 0 {
		list = " (" + strings.Join(names, ", ") + ")"
	}
	return g.plain("copy", "COPY "+t.name+list+" TO STDOUT"+options, true)
}

func (g *Generator) copyIn() *Step {
	t := g.table()
	for !strings.Contains(t.writes, "insert") || t.view {
		t = g.table()
	}
	g.touched = t.protects()
	can := g.writable(t)
	if len(can) == 0 || can[0].name != "id" && t.name != "log" {
		can = t.columns[:2]
	}
	var names, values []string
	for _, c := range can {
		names = append(names, c.name)
		v := values_(g, c)
		values = append(values, v)
	}
	format := g.pick("text", "csv", "binary")
	data := strings.Join(values, "\t") + "\n"
	switch format {
	case "csv":
		data = strings.ReplaceAll(strings.Join(values, ","), `\N`, "") + "\n"
	case "binary": // texts alone are right
		b := []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
		for i, v := range values {
			var n int32
			if _, err := fmt.Sscan(v, &n); err == nil && can[i].kind == "int" {
				b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(n))
				continue
			}
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		}
		data = string(append(b, 0xff, 0xff))
	}
	more := ""
	if g.major >= 17 && format != "binary" && g.odds(4) {
		more = ", ON_ERROR ignore"
	}
	text := fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT %s%s)", t.name, strings.Join(names, ", "), format, more)
	return &Step{Text: fmt.Sprintf("%s %q", text, data), Form: "copy in", Kind: "copy", Touches: g.touched, Judged: true,
		Messages: []pgproto3.FrontendMessage{&pgproto3.Query{String: text}, &pgproto3.CopyData{Data: []byte(data)}, &pgproto3.CopyDone{}}}
}

func values_(g *Generator, c column) string {
	if g.odds(15) {
		return g.pick("wrong", `\N`, "999999999999")
	}
	switch c.kind {
	case "int":
		return g.pick("1", "3", "40", "41", "55", "2")
	case "text":
		return g.pick("eu", "x", "new", `\N`)
	case "mood":
		return "low"
	case "date":
		return "2020-01-01"
	case "numeric":
		return "1.5"
	}
	return `\N`
}
