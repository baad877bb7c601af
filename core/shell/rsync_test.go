package shell

import (
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// kept is a host on which rsync may read and write in directories.
var kept = Options{Posix: true, Rsync: &Rsync{
	Words: [][]string{{"rsync", "--server", "--sender", "-logDtpre.iLsfxCIvu", ".", "/srv/nightly/"}},
	Dirs: []map[string][]string{
		{"read": {"/srv/app", "/srv/app/deep"}},
		{"write": {"/srv/app", "/srv/in", "/srv/x y"}, "remove": {"/srv/app"}, "link": {"/srv/app"}},
		{"read": {"/srv/two"}, "write": {"/srv/two"}},
		{"write": {"/srv/two"}, "remove": {"/srv/two"}},
		{"write": {"/srv/two"}, "link": {"/srv/two"}},
	}}}

// TestSC22RsyncUnder: what rsync's clients ask for becomes rrsync in the directory
// that is furthest down, with no more than what is listed.
func TestSC22RsyncUnder(t *testing.T) {
	for text, want := range map[string]string{
		"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/app/":                             "--sender -logDtpre.iLsfxCIvu . .|-ro|/srv/app",
		"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/app/.":                            "--sender -logDtpre.iLsfxCIvu . .|-ro|/srv/app",
		"rsync --server --sender -logDtpre31.14iLsfxCIvu . /srv/app/a /srv/app/b/":            "--sender -logDtpre31.14iLsfxCIvu . a b/|-ro|/srv/app",
		"rsync --server --sender -re. . /srv/app/deep/x":                                      "--sender -re. . x|-ro|/srv/app/deep",
		"rsync --server --sender -re. . /srv/app/deep/x /srv/app/y":                           "--sender -re. . deep/x y|-ro|/srv/app",
		"rsync --server --sender -re. . /srv/app/deep":                                        "rrsync shows what is in",
		"rsync --server --sender -vvnlHHogDtUUpXXrcxxze. --list-only . /srv/app/.git":         "--sender -vvnlHHogDtUUpXXrcxxze. --list-only . .git|-ro|/srv/app",
		`rsync --server --sender -re. . '/srv/app/a b' /srv/app/ü\ b/`:                        `--sender -re. . a\ b ü\ b/|-ro|/srv/app`,
		"rsync --server -vlogDtpre.iLsfxCIvu --delete-during --force . /srv/app":              "-vlogDtpre.iLsfxCIvu --delete-during --force . .|-wo|/srv/app",
		"rsync --server -ogDtpre.iLsfxCIvu . /srv/in/new/":                                    "-ogDtpre.iLsfxCIvu . new/|-wo|-no-del|-munge|/srv/in",
		"rsync --server -ogDtpre.iLsfxCIvu . '/srv/x y'":                                      "-ogDtpre.iLsfxCIvu . .|-wo|-no-del|-munge|/srv/x y",
		"rsync --server -tRe. --partial --log-format=%i%I --timeout=30 . /srv/in":             "-tRe. --partial --log-format=%i%I --timeout=30 . .|-wo|-no-del|-munge|/srv/in",
		"rsync --server -tre. -B1024 -@1 --max-delete=-1 --suffix=.bak~ . /srv/in":            "-tre. -B1024 -@1 --max-delete=-1 --suffix=.bak~ . .|-wo|-no-del|-munge|/srv/in",
		`rsync --server -tre. --usermap=\*:www-data --groupmap=0-9:adm . /srv/in`:             "-tre. --usermap=*:www-data --groupmap=0-9:adm . .|-wo|-no-del|-munge|/srv/in",
		"rsync --server -tre. --compress-choice=zstd --checksum-choice=xxh128,none . /srv/in": "-tre. --compress-choice=zstd --checksum-choice=xxh128,none . .|-wo|-no-del|-munge|/srv/in",
		"rsync --server -tre. --delete . /srv/two":                                            "-tre. --delete . .|-wo|-munge|/srv/two",
		"rsync --server -tlre. . /srv/two":                                                    "-tlre. . .|-wo|-no-del|/srv/two",
		"rsync --server -tlre. --delete . /srv/two":                                           "is not listed for that",
		"rsync --server -tlre. . /srv/in":                                                     "symbolic links (-l, which -a has), and \"/srv/in\" is not listed for that: add --no-links",
		"rsync --server -tre. --delete-after . /srv/in":                                       "remove what is there, and \"/srv/in\" is not listed",
		"rsync --server -tre. --force . /srv/in":                                              "remove what is there",
		"rsync --server -tre. --remove-source-files . /srv/in":                                "remove what is there",
		"rsync --server --sender -tre. . /srv/in/":                                            `lists no directory in which rsync may read "/srv/in/": it lists read "/srv/app"`,
		"rsync --server -tre. . /srv/nightly":                                                 "lists no directory in which rsync may write",
	} {
		st := Parse(text, kept)
		if want, flags, ok := strings.Cut(want, "|"); ok {
			argv := append([]string{"env", "SSH_ORIGINAL_COMMAND=rsync --server " + want, "rrsync"}, strings.Split(strings.Replace(flags, "o|", "o|-absolute|", 1), "|")...)
			effect := abi.EffectWrite
			if argv[3] == "-ro" {
				effect = abi.EffectRead
			}
			if len(st.Operations) != 1 || !slices.Equal(st.Operations[0].Object, argv) || st.Operations[0].Effect != effect || st.Incomplete != "" || st.Canonical != Quote(argv) {
				t.Errorf("%s: %s %s: %q", text, st.Canonical, st.Incomplete, brief(st))
			}
			if !Confined(argv) || !Converses(argv) {
				t.Errorf("%q is not seen to be kept in", argv)
			}
		} else if !strings.Contains(st.Incomplete, want) || !strings.Contains(st.Incomplete, "{exec: [[rsync, --server, ") {
			t.Errorf("%s: %q %q", text, st.Incomplete, brief(st))
		}
	}
}

// TestSC22RsyncHostile: words that would have rsync's server read or write
// elsewhere, run something, or hide what they say.
func TestSC22RsyncHostile(t *testing.T) {
	for _, options := range []string{
		"--files-from=/etc/shadow", "--files-from=-", "--files-from /etc/shadow", "--from0", "--log-file=/tmp/x", "--log-file /tmp/x", "--log-file-format=%f", "--temp-dir=/tmp", "--temp-dir /tmp", "-T/tmp", "-T /tmp",
		"--backup-dir=/etc", "--backup-dir /etc", "--partial-dir=/etc", "--partial-dir x", "--link-dest=/etc", "--copy-dest=/etc", "--compare-dest=../out", "--compare-dest /etc", "--rsync-path=/tmp/x", "--daemon", "--config=/tmp/x", "--dparam=x=y",
		"--rsh=id", "--rsh id", "-e id", "-eid", "-e sh", "-e.i/L", "-e.i.L", "-e1", "-e", "-re", "-rex.", "-r.", "-e31.14i;id", "-e.iLs -e sh", "-ere.", "-Me.", "-M--log-file=/x", "--remote-option=--log-file=/x", "-s", "-se.", "--protect-args", "--secluded-args",
		"-L", "-rLe.", "-K", "-k", "-C", "-rCe.", "-F", "-f x", "-fx", "-P", "-a", "-h", "-i", "-q0", "-B", "-Bx", "-B1k", "-@-1", "-@", "-", "--", "-- /etc", "---server", "--server=x", "--server", "--sender=1", "--send", "--serv",
		"--copy-links", "--copy-unsafe-links", "--copy-dirlinks", "--keep-dirlinks", "--munge-links", "--no-munge-links", "--copy-devices", "--write-devices", "--devices", "--super", "--fake-super", "--read-batch=/x", "--write-batch=/x", "--only-write-batch=/x", "--only-write-batch=X",
		"--filter=x", "--exclude-from=/etc/shadow", "--include-from=/etc/shadow", "--password-file=/x", "--early-input=/x", "--chown=a", "--trust-sender", "--sockopts=x", "--address=x", "--debug=ALL", "--stop-at=x", "--out-format=%f", "--log-format=%f", "--log-format=/x", "--log-format", "--log-format=",
		"--timeout", "--timeout=", "--timeout=x", "--timeout 5", "--timeout=5/x", "--suffix=/../x", "--suffix=a/b", "--suffix=", "--suffix", "--iconv=/tmp/x", "--info=../x", "--usermap=a/b", "--skip-compress=/", "--delete=x", "--dele", "--del", "--delet", "--partia", "--inplace=1", "--max-size=1/2",
		`'-r x'`, `'-re. --files-from=/x'`, `'--timeout=5 --files-from=/x'`, `'--suffix= .'`, `'-re.	x'`, `-re.\\`, `''`, `' '`, `'-re.
'`, "é", "-é", "x", "./x", "/etc", "..", "*",
	} {
		for _, text := range []string{"rsync --server " + options + " . /srv/app/x", "rsync --server --sender -re. " + options + " . /srv/app/x", "rsync --server --sender " + options + " -re. . /srv/app/x"} {
			if st := Parse(text, kept); st.Incomplete == "" {
				t.Errorf("%s runs as %s", text, st.Canonical)
			}
		}
	}
	for _, words := range []string{
		"/srv/app/../out", "/srv/app/..", "/srv/app/x/../../out/x", "/srv/app/./x", "/srv/app//x", "//srv/app/x", "/srv/./app/x", "/srv/app/x/./y", "/srv/app/x/..", "/srv/app/-e", "/srv/app/x/-rf", "/srv/application", "/srv/ap", "/srv", "/", "/srv/app2/x", "/etc/passwd", "/srv/app.old",
		"app/x", "x", ".", "./srv/app/x", "../srv/app/x", "''", `'/srv/app/*'`, `'/srv/app/?'`, `'/srv/app/[a]'`, `'/srv/app/{a,/etc/passwd}'`, `'/srv/app/\x'`, `'/srv/app/x\'`, `'/srv/app/a
b'`, `$'/srv/app/a\tb'`, "/srv/app/x /etc/passwd", "/srv/app/x ../x", "/srv/app/x --files-from=/etc/shadow", "/srv/app/x -e", "/srv/in/x", "~/x", "~root/x", "/srv/app/$(id)", "/srv/app/x; id", "/srv/app/x && id",
		"/srv/app/x > /srv/app/y", "/srv/app/x < /etc/shadow", "/srv/app/x | tee /tmp/y", "/srv/app/x | rsync --server --sender -re. . /srv/app/x", "/srv/app/x &", "/srv/app/x 2>/dev/null", "/srv/app/x\n id",
	} {
		for _, text := range []string{"rsync --server --sender -re. . " + words, "rsync --server --sender -re. . /srv/app/y " + words} {
			if st := Parse(text, kept); st.Incomplete == "" {
				t.Errorf("%s runs as %s", text, st.Canonical)
			}
		}
	}
	for _, text := range []string{
		"rsync", "rsync --server", "rsync --server --sender", "rsync --server .", "rsync --server -re. /srv/app/x", "rsync --server -re. . ", "rsync --server -re. . /srv/app/x /srv/app/y", "rsync -re. --server . /srv/app/x", "rsync --sender --server -re. . /srv/app/x", "rsync --serve --sender -re. . /srv/app/x",
		"/usr/bin/rsync --server -re. . /srv/app/x", "./rsync --server -re. . /srv/app/x", "RSYNC --server -re. . /srv/app/x", "sudo rsync --server -re. . /srv/app/x", "env rsync --server -re. . /srv/app/x", "LC_ALL=C rsync --server -re. . /srv/app/x", "sh -c 'rsync --server -re. . /srv/app/x'",
		"rsync --server -re. . /srv/app/.ssh", "rsync --server -re. . /srv/app/.git/hooks/", "rsync --server -re. . /srv/app/x/.bashrc", "rsync --server --sender -Re. . /srv/app/x", "rsync --server --sender -re. --remove-source-files . /srv/app/x", "cat x | rsync --server -re. . /srv/app/x", "exec rsync --server -re. . /srv/app/x", "rsync --server --daemon .", "rsync --server --daemon . /srv/app/x",
		"env 'SSH_ORIGINAL_COMMAND=rsync --server -re. . x' rrsync -wo /", "SSH_ORIGINAL_COMMAND='rsync --server -re. . x' rrsync /", "env -i 'SSH_ORIGINAL_COMMAND=rsync --server -re. . x' rrsync -wo /srv/app", "sudo 'SSH_ORIGINAL_COMMAND=rsync --server -re. . x' rrsync -wo /srv/app",
	} {
		st := Parse(text, kept)
		for i := range st.Operations {
			if o := st.Operations[i]; Confined(o.Object) || st.Incomplete == "" && serves(o.Object) {
				t.Errorf("%s runs as %s", text, st.Canonical)
			}
		}
	}
}

// TestSC18RsyncWords: words that a task lists are those words, and stay so where
// another program runs them; nothing else of rsync's server is.
func TestSC18RsyncWords(t *testing.T) {
	words := kept.Rsync.Words[0]
	for _, text := range []string{"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/nightly/", `"rsync" --server --sender  '-logDtpre.iLsfxCIvu' . /srv/night\ly/`, "sudo rsync --server --sender -logDtpre.iLsfxCIvu . /srv/nightly/"} {
		st := Parse(text, kept)
		if n := len(st.Operations); st.Incomplete != "" || !slices.Equal(st.Operations[n-1].Object, words) || !Converses(words) {
			t.Errorf("%s: %s %q", text, st.Incomplete, brief(st))
		}
	}
	for _, text := range []string{"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/nightly", "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/nightly/ /etc", "rsync --server -logDtpre.iLsfxCIvu . /srv/nightly/", "rsync --server --sender -logDtpre.iLsfxCIvux . /srv/nightly/", "/usr/bin/rsync --server --sender -logDtpre.iLsfxCIvu . /srv/nightly/"} {
		if st := Parse(text, kept); st.Incomplete == "" {
			t.Errorf("%s: %q", text, brief(st))
		}
		if st := Parse(text, Options{Posix: true}); st.Incomplete == "" || !strings.Contains(st.Incomplete, "use sftp") {
			t.Errorf("%s: %s", text, st.Incomplete)
		}
	}
	if st := Parse("rsync --server --sender -re. . /srv/app/x", Options{Rsync: kept.Rsync}); !strings.Contains(st.Incomplete, "shell: posix") {
		t.Errorf("without quotes: %s %s", st.Canonical, st.Incomplete)
	}
}

// TestSC18RsyncHint: a refusal says what to list, as a task file has it.
func TestSC18RsyncHint(t *testing.T) {
	for text, want := range map[string]string{
		"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/app/": `the directory, {rsync: {read: [/srv/app]}}, or its very words, {exec: [[rsync, --server, --sender, -logDtpre.iLsfxCIvu, ".", /srv/app/]], stdin: allow}`,
		"rsync --server --sender -re. . /srv/app/x":               `{rsync: {read: [/srv/app]}}`,
		"rsync --server -logDtpre. --delete . '/srv/a b'":         `{rsync: {write: ["/srv/a b"], link: ["/srv/a b"], remove: ["/srv/a b"]}}`,
		"rsync --server -tre. --log-format=%i . app":              `list its very words, {exec: [[rsync, --server, -tre., "--log-format=%i", ".", "app"]], stdin: allow}`,
	} {
		if st := Parse(text, Options{Posix: true}); !strings.Contains(st.Incomplete, want) {
			t.Errorf("%s: %s", text, st.Incomplete)
		}
	}
	if st := Parse("rsync --server . "+strings.Repeat("/a", 2000), Options{Posix: true}); len(st.Incomplete) > 3000 {
		t.Errorf("%d bytes", len(st.Incomplete))
	}
}

func FuzzRsync(f *testing.F) {
	f.Add("-logDtpre.iLsfxCIvu", "--delete", "/srv/app/x", true)
	f.Add("-re31.1", "--suffix=.x", "/srv/in/a b/.", false)
	f.Fuzz(func(t *testing.T, a, b, p string, sender bool) {
		argv := []string{"rsync", "--server", a, b, ".", p}
		if sender {
			argv = slices.Insert(argv, 2, "--sender")
		}
		st := Parse(Quote(argv), kept)
		if st.Incomplete != "" {
			return
		}
		for i := range st.Operations {
			o := st.Operations[i].Object
			if !Confined(o) {
				continue
			}
			// As rrsync reads them, blanks part words.
			told := strings.Split(strings.ReplaceAll(o[1], `\ `, "\x00"), " ")
			last := told[len(told)-1]
			dot := slices.Index(told, ".")
			if dot < 0 || dot != len(told)-2 || strings.HasPrefix(last, "/") || strings.HasPrefix(last, "-") || slices.Contains(strings.Split(last, "/"), "..") || strings.ContainsAny(last, `*?[]{}\`) {
				t.Errorf("%q becomes %q", argv, o)
			}
		}
	})
}
