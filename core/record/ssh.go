package record

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/internal/count"
)

const (
	protocolSSH = "ssh"
	maxLine     = 4 << 10 // of a stream: what is longer is shown in parts
)

// hosts is what a player keeps of an SSH session beside the rest. Its streams
// come at the same time, so it shows lines, and whose they are.
type hosts struct {
	streams   streams
	begun     map[streamed][]byte // the line that each stream has begun
	framing   map[uint64]uint64   // of the bytes kept of an answer, what is not its own
	terminals map[uint64]bool     // commands that have one
	strange   map[uint64]bool     // commands with frames that nobody here knows
	shells    map[string]bool     // texts that are one, by digest
	last      uint64              // the command that was shown last
}

func newHosts() *hosts {
	return &hosts{streams: streams{}, begun: map[streamed][]byte{}, framing: map[uint64]uint64{},
		terminals: map[uint64]bool{}, strange: map[uint64]bool{}, shells: map[string]bool{}}
}

// begins notes a command that was just shown.
func (p *player) begins(at string, e *gate.Event) {
	h := p.hosts
	if h.shells[e.Digest] && !refused(e) {
		h.terminals[e.Command] = true
	}
	p.rest(at, 0) // what comes outside of commands has a head for each of them
	h.streams.end(0)
	h.last = e.Command
}

// came shows what came of a command, line by line.
func (p *player) came(at string, e *gate.Event) {
	h := p.hosts
	n := h.streams.each(e, func(kind byte, b []byte) {
		switch kind {
		case frameOut, frameErr, frameIn:
			p.piece(at, streamed{e.Command, kind}, b)
		case frameResize:
			h.terminals[e.Command] = true
			p.whose(at, e.Command)
			p.printf("%sterminal of %s\n", indent, size(b))
		default:
			if !h.strange[e.Command] {
				h.strange[e.Command] = true
				p.whose(at, e.Command)
				p.printf("%s… (frames of a kind that this version does not know, %q)\n", indent, kind)
			}
		}
	})
	if e.Kind == gate.EventResult {
		h.framing[e.Command] += uint64(n)
	}
}

// piece shows the lines that are whole with this piece. One that is too long is
// shown in parts, with a backslash at the end of each, which no line has.
func (p *player) piece(at string, s streamed, b []byte) {
	ends := "\n"
	if s.kind == frameIn && p.hosts.terminals[s.command] {
		ends = "\r\n" // what the enter key sends
	}
	line := p.hosts.begun[s]
	for len(b) > 0 {
		n := bytes.IndexAny(b[:min(len(b), maxLine)], ends)
		if n >= 0 {
			p.line(at, s, append(line, b[:n]...), "")
			line, b = line[:0], b[n+1:]
			continue
		}
		n = min(len(b), maxLine-len(line))
		line, b = append(line, b[:n]...), b[n:]
		if len(line) == maxLine {
			whole := len(line) - unfinished(line)
			p.line(at, s, line[:whole], `\`)
			line = append(line[:0], line[whole:]...)
		}
	}
	if len(line) == 0 {
		delete(p.hosts.begun, s)
	} else {
		p.hosts.begun[s] = line
	}
}

func (p *player) line(at string, s streamed, line []byte, more string) {
	p.whose(at, s.command)
	text := string(line)
	if p.hosts.terminals[s.command] && s.kind == frameOut {
		text = strings.TrimSuffix(text, "\r")
	}
	p.printf("%s%c %s%s\n", indent, map[byte]rune{frameOut: '|', frameErr: '!', frameIn: '<'}[s.kind], Escape(text), more)
}

// whose says which command's the next line is, where that is another than the
// one before.
func (p *player) whose(at string, command uint64) {
	if p.hosts.last != command {
		p.hosts.last = command
		if command == 0 {
			p.printf("%s  outside of commands\n", at)
		} else {
			p.printf("%s    #%d\n", at, command)
		}
	}
}

// rest shows the lines that a command has begun and not ended.
func (p *player) rest(at string, command uint64) {
	for _, kind := range []byte{frameOut, frameErr, frameIn} {
		s := streamed{command, kind}
		if line := p.hosts.begun[s]; len(line) > 0 {
			p.line(at, s, line, "")
		}
		delete(p.hosts.begun, s)
	}
}

// unended shows what the recording has of commands that it does not end.
func (p *player) unended() {
	list := make([]streamed, 0, len(p.hosts.begun))
	for s := range p.hosts.begun {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b streamed) int {
		return cmp.Or(cmp.Compare(a.command, b.command), cmp.Compare(a.kind, b.kind))
	})
	for _, s := range list {
		p.line(strings.Repeat(" ", 10), s, p.hosts.begun[s], "")
	}
}

// ended shows how a command on a host ended.
func (p *player) ended(at string, e *gate.Event) {
	h := p.hosts
	p.rest(at, e.Command)
	kept, framing := p.kept[e.Command], h.framing[e.Command]
	own := e.Bytes - min(framing, e.Bytes)
	if cut := h.streams.end(e.Command); kept < e.Bytes {
		p.whose(at, e.Command)
		p.printf("%s… (%d of about %s were kept)\n", indent, kept-min(framing, kept), count.Of(own, "byte"))
	} else if cut {
		p.whose(at, e.Command)
		p.printf("%s… (the rest was not kept)\n", indent)
	}
	p.printf("%s    #%d %s", at, e.Command, e.State)
	for _, more := range []string{e.Tag, e.Code} {
		if more != "" {
			p.printf(" %s", Escape(more))
		}
	}
	if own > 0 {
		p.printf(" (%s, %s)\n", count.Of(own, "byte"), took(e))
	} else { // what was written to a file says so itself
		p.printf(" (%s)\n", took(e))
	}
	delete(p.kept, e.Command)
	delete(h.framing, e.Command)
	delete(h.terminals, e.Command)
	delete(h.strange, e.Command)
	h.last = e.Command
}
