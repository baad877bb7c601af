package shell

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
)

// Rsync is what a task lists of rsync's server. That reads paths out of its
// stream, so its words do not say which files it is for: it runs by exactly the
// words that are listed, or under rrsync, which keeps it in a directory.
type Rsync struct {
	Words [][]string            // commands, word by word
	Dirs  []map[string][]string // of each rule: directories, by what may be done there (read, write, remove, link)
}

// original is how rrsync is told what its client asks for, as by sshd.
const original = "SSH_ORIGINAL_COMMAND="

// Confined says whether the words are those that the gateway makes of rsync's
// server to keep it in a directory. No client can send them: see loader.
func Confined(argv []string) bool {
	return len(argv) > 3 && argv[0] == "env" && strings.HasPrefix(argv[1], original) && argv[2] == "rrsync"
}

// serves says whether the words are of rsync's server, or may be.
func serves(argv []string) bool {
	return path.Base(argv[0]) == "rsync" && slices.ContainsFunc(argv[1:], func(a string) bool { return abbreviates(a, "server", "sender", "daemon") })
}

// listed says whether a task lists these words of rsync's server.
func (r *reader) listed(argv []string) bool {
	return r.rsync != nil && serves(argv) && slices.ContainsFunc(r.rsync.Words, func(w []string) bool { return slices.Equal(w, argv) })
}

// confine makes of rsync's server one under rrsync, if a task lists a directory
// that all of its paths are in. False leaves it as any other program.
func (r *reader) confine(c *command) (bool, error) {
	if r.rsync == nil || len(r.rsync.Dirs) == 0 || c.argv[0] != "rsync" || !serves(c.argv) || r.listed(c.argv) || len(c.assigns)+len(c.redirects) > 0 {
		return false, nil
	}
	s, err := readServer(c.argv[1:])
	if err != nil {
		return false, fmt.Errorf("rsync is kept in a directory here, and %w; or have your operator list its very words, %s", err, asRule(c.argv))
	}
	dir, err := r.rsync.dir(s)
	if err != nil {
		return false, fmt.Errorf("%w; or have your operator list its very words, %s", err, asRule(c.argv))
	}
	c.argv = s.under(dir)
	o := abi.Operation{Verb: "exec", Kind: abi.KindProgram, Object: c.argv, Effect: abi.EffectWrite}
	if s.reads() {
		o.Effect = abi.EffectRead
	}
	r.operations = append(r.operations, o)
	return true, nil
}

// server is what the words of rsync's server say.
type server struct {
	options []string
	paths   []string // absolute; a slash at the end says that what is in it is meant
	verbs   []string // what it does in its directory: read, or write and what is beside it
}

// Letters of options that only say how files are compared and carried. Not among
// them are those that follow links (K, L, k), read rules from the home directory
// (C) or hide the other words (s).
const rsyncLetters = "vqbunldHogDtUNpEAXrcIRxSzWmOJy"

var rsyncExcluded = map[byte]string{
	'K': "follows links out of it: leave out --keep-dirlinks", 'L': "follows links out of it: leave out --copy-links", 'k': "follows links out of it: leave out --copy-dirlinks",
	'C': "reads rules from elsewhere: use --exclude for --cvs-exclude", 's': "hides its other words: leave out --secluded-args",
}

// Long options that do, and the characters of the values of those that have one.
var rsyncFlags = set(`
	list-only no-r no-W no-relative no-implied-dirs specials no-specials msgs2stderr no-msgs2stderr new-compress old-compress stats size-only
	existing ignore-existing ignore-errors ignore-missing-args numeric-ids use-qsort fsync append inplace partial delay-updates preallocate open-noatime mkpath safe-links
	force delete delete-before delete-during delete-delay delete-after delete-excluded delete-missing-args remove-source-files remove-sent-files
`)

const (
	tens  = "0123456789"
	words = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + tens + "_"
)

var rsyncValued = map[string]string{
	"timeout": tens, "bwlimit": tens, "modify-window": tens, "block-size": tens, "checksum-seed": tens + "-", "max-delete": tens + "-", "compress-level": tens + "-", "compress-threads": tens,
	"min-size": words + ".+-", "max-size": words + ".+-", "max-alloc": words + ".", "compress-choice": words + ",", "checksum-choice": words + ",", "skip-compress": words + ".,-",
	"info": words + ",", "iconv": words + ".:-", "suffix": words + ".+~@%=-", "usermap": words + ".,:*@+-", "groupmap": words + ".,:*@+-", "log-format": "",
}

// rsyncFormats are all that a client makes of its own format.
var rsyncFormats = set("%i%I %i %o X")

// readServer reads the words behind rsync. What it does not know is refused: an
// option may name a file, or a program.
func readServer(args []string) (*server, error) {
	if args[0] != "--server" {
		return nil, fmt.Errorf("%s does not begin with --server: let rsync itself ask for its server", show(args[0]))
	}
	s, args := &server{verbs: []string{"write"}}, args[1:]
	if len(args) > 0 && args[0] == "--sender" {
		s.verbs, args = []string{"read"}, args[1:]
	}
	for len(args) > 0 && args[0] != "." {
		if err := s.option(args[0]); err != nil {
			return nil, err
		}
		s.options, args = append(s.options, args[0]), args[1:]
	}
	if len(args) < 2 {
		return nil, errors.New("no path is named behind the .: write HOST:/PATH")
	}
	s.paths = slices.Clone(args[1:])
	if !s.reads() && len(s.paths) > 1 {
		return nil, errors.New("there is more than one path to write to: name one")
	}
	for i, p := range s.paths {
		var err error
		if s.paths[i], err = jailed(p); err != nil {
			return nil, err
		}
		if !s.reads() && Persists(p) {
			return nil, fmt.Errorf("what is written to %s takes effect by itself: use sftp, which writes it by its path", show(p))
		}
	}
	return s, nil
}

func (s *server) reads() bool { return s.verbs[0] == "read" }

func (s *server) needs(verb string) {
	if !slices.Contains(s.verbs, verb) {
		s.verbs = append(s.verbs, verb)
	}
}

// option reads one word before the dot.
func (s *server) option(a string) error {
	long, ok := strings.CutPrefix(a, "--")
	if !ok {
		return s.short(a)
	}
	long, value, has := strings.Cut(long, "=")
	chars, known := rsyncValued[long]
	switch {
	case !has && rsyncFlags[long]:
	case has && long == "log-format" && rsyncFormats[value]:
	case has && known && value != "" && strings.Trim(value, chars) == "":
	default:
		return fmt.Errorf("%s is no option that is passed on: leave it out", show(a))
	}
	switch {
	case strings.HasPrefix(long, "remove") && s.reads():
		return fmt.Errorf("%s would remove what is read: leave it out", show(a))
	case strings.HasPrefix(long, "remove"), strings.HasPrefix(long, "delete"), long == "force":
		s.needs("remove")
	}
	return nil
}

// short reads letters that stand together, behind which the capabilities of the
// protocol may stand as the value of -e.
func (s *server) short(a string) error {
	rest := strings.TrimPrefix(a, "-")
	if rest == a || rest == "" {
		return fmt.Errorf("%s is no option that is passed on: leave it out", show(a))
	}
	if n := rest[1:]; (rest[0] == 'B' || rest[0] == '@') && n != "" && digits(n) == len(n) {
		return nil
	}
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case c == 'e':
			n := i + 1 + digits(rest[i+1:])
			if n == len(rest) || rest[n] != '.' || strings.Trim(rest[n+1:], words) != "" {
				return fmt.Errorf("the value of -e in %s is none that rsync sends: leave it out", show(a))
			}
			return nil
		case rsyncExcluded[c] != "":
			return fmt.Errorf("-%c in %s %s", c, show(a), rsyncExcluded[c])
		case strings.IndexByte(rsyncLetters, c) < 0:
			return fmt.Errorf("%s is no option that is passed on: leave it out", show(a))
		case c == 'l' && !s.reads():
			s.needs("link")
		case c == 'R' && s.reads():
			return errors.New("-R would name files by the paths above that directory: leave out --relative")
		}
	}
	return nil
}

// jailed gives a path as it is judged: with no part that is empty, . or .., but a
// slash at its end. rrsync takes some characters for patterns.
func jailed(p string) (string, error) {
	whole := strings.TrimSuffix(p, "/.")
	if len(whole) < len(p) {
		whole += "/"
	}
	switch {
	case !strings.HasPrefix(p, "/"):
		return "", fmt.Errorf("where %s is depends on the account: write the whole path", show(p))
	case strings.ContainsAny(p, `*?[]{}\`) || strings.ContainsFunc(p, func(r rune) bool { return !strconv.IsPrint(r) }):
		return "", fmt.Errorf("%s has a character that rrsync takes for a pattern, or that cannot be seen: name the directory above it", show(p))
	case strings.Contains(p, "/-"):
		return "", fmt.Errorf("a part of %s begins with a dash: name the directory above it", show(p))
	case path.Clean(whole) != whole && path.Clean(whole)+"/" != whole:
		return "", fmt.Errorf("%s has a part that is empty, . or ..: write the path without it", show(p))
	}
	return whole, nil
}

// dir finds the directory that all paths are in and where all of it may be done:
// the one that is furthest down.
func (r *Rsync) dir(s *server) (string, error) {
	best, lacks, over := "", "", ""
	for _, rule := range r.Dirs {
		for _, d := range rule[s.verbs[0]] {
			if slices.ContainsFunc(s.paths, func(p string) bool { return p != d && !strings.HasPrefix(p, d+"/") }) {
				continue
			}
			if over = d; len(d) <= len(best) {
				continue
			}
			if i := slices.IndexFunc(s.verbs, func(v string) bool { return !slices.Contains(rule[v], d) }); i < 0 {
				best = d
			} else {
				lacks = s.verbs[i]
			}
		}
	}
	switch {
	case best == "" && over == "":
		return "", fmt.Errorf("this task lists no directory in which rsync may %s %s: it lists %s", s.verbs[0], show(strings.Join(s.paths, " ")), r)
	case best == "" && lacks == "link":
		return "", fmt.Errorf("rsync would make symbolic links (-l, which -a has), and %s is not listed for that: add --no-links", show(over))
	case best == "":
		return "", fmt.Errorf("rsync would remove what is there, and %s is not listed for that: leave out --delete and its like, --force and --remove-source-files", show(over))
	case s.reads() && slices.Contains(s.paths, best):
		return "", fmt.Errorf("rrsync shows what is in %s, not the directory itself: write a slash behind it", show(best))
	}
	return best, nil
}

// String is what is listed, by verb.
func (r *Rsync) String() string {
	var list []string
	for _, verb := range []string{"read", "write"} {
		for _, rule := range r.Dirs {
			for _, d := range rule[verb] {
				if s := verb + " " + show(d); !slices.Contains(list, s) && len(list) < 8 {
					list = append(list, s)
				}
			}
		}
	}
	return strings.Join(list, ", ")
}

// under gives the words that run it in that directory. rrsync is told with its own
// options what is not listed, though no option of the server asks for it by now.
// -absolute does nothing here, but no rrsync knows it that came before the one which
// keeps filters in the directory, or shortly before: older ones refuse.
func (s *server) under(dir string) []string {
	b := []byte(original + "rsync --server")
	argv := []string{"env", "", "rrsync", "-wo", "-absolute"}
	if s.reads() {
		b, argv[3] = append(b, " --sender"...), "-ro"
	} else {
		if !slices.Contains(s.verbs, "remove") {
			argv = append(argv, "-no-del")
		}
		if !slices.Contains(s.verbs, "link") {
			argv = append(argv, "-munge")
		}
	}
	for _, o := range append(slices.Clone(s.options), ".") {
		b = append(append(b, ' '), o...)
	}
	for _, p := range s.paths {
		if p = strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"); p == "" {
			p = "."
		}
		b = append(append(b, ' '), strings.ReplaceAll(p, " ", `\ `)...)
	}
	argv[1] = string(b)
	return append(argv, dir)
}

// errServer refuses rsync's server, and says what to list.
func errServer(argv []string) error {
	dir := ""
	if s, err := readServer(argv[1:]); err == nil && argv[0] == "rsync" && len(s.paths[0]) < 300 {
		d, what := strings.CutSuffix(s.paths[0], "/")
		if i := strings.LastIndexByte(d, '/'); s.reads() && !what && i > 0 {
			d = d[:i] // what is read is in it
		}
		var verbs []string
		for _, v := range s.verbs {
			verbs = append(verbs, fmt.Sprintf("%s: [%s]", v, plainText(d)))
		}
		dir = fmt.Sprintf("the directory, {rsync: {%s}}, or ", strings.Join(verbs, ", "))
	}
	return fmt.Errorf("rsync's server hides which files are meant: use sftp, or have your operator list %sits very words, %s", dir, asRule(argv))
}

// asRule writes words as the rule that lists them.
func asRule(argv []string) string {
	const most = 1000
	list := make([]string, len(argv))
	for i, w := range argv {
		list[i] = plainText(w)
	}
	s := strings.Join(list, ", ")
	if len(s) > most {
		return "{exec: [[rsync, --server, …]], stdin: allow}"
	}
	return "{exec: [[" + s + "]], stdin: allow}"
}

// plainText writes a word as YAML has it.
func plainText(w string) string {
	option := len(w) > 2 && w[0] == '-' && (w[1] == '-' || strings.IndexByte(words[:52], w[1]) >= 0)
	if strings.Trim(w, words+"/.-") == "" && (w == "rsync" || option || strings.HasPrefix(w, "/")) {
		return w
	}
	return strconv.Quote(w)
}
