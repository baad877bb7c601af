package policy

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
)

func TestOver(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/etc/app.conf", "/etc/app.conf", true},
		{"/etc/app.conf", "/etc/app.conf.bak", false},
		{"/etc/*.conf", "/etc/.conf", true},
		{"/etc/*.conf", "/etc/a/b.conf", false},
		{"/etc/**", "/etc/.hidden/x", true},
		{"/etc/**", "/etc", true},
		{"/etc/**/key", "/etc/a/b/key", true},
		{"/etc/**/key", "/etc/key", true},
		{"/etc/**/key", "/etc/keys", false},
		{"/a*b*c", "/axxbyyc", true},
		{"/a*b*c", "/acb", false},
		{"/**", "/anything/at/all", true},
	} {
		if got := Over(c.pattern, c.path); got != c.want {
			t.Errorf("%s over %s: %t", c.pattern, c.path, got)
		}
	}
}

// TestTexts: what is masked in a program's output, and the ways around it.
func TestTexts(t *testing.T) {
	password := abi.Protect{Pattern: "password=(.*)", Kind: abi.MaskFixed, Arg: "***"}
	config := &Config{Tasks: map[string]*Task{"web": {
		Rules: []Rule{
			{Host: &Host{Exec: [][]string{{"cat", "/etc/app/*"}, {"cat"}, {"base64"}, {"tail", "-c", "8"}, {"uptime"}, {"app", "show"}, {"tool", "--file=/etc/app/x.conf"},
				{"grep", "-r", "x", "/etc/app"}, {"ls", "/etc/app/"}, {"cc", "-I/etc"}, {"du", "/"}, {"tool", "--root=/"}, {"cat", "/etc//app/./x.conf"}, {"cat", "/srv/../etc/app/x.conf"}, {"ls", "/etc/apps"}, {"df", "etc/"}}}},
			{Host: &Host{Files: map[string][]string{"read": {"/etc/**", "/srv/**"}, "write": {"/etc/app/**", "/srv/**"}, "rename": {"/etc/**", "/srv/**"}, "link": {"/etc/**", "/srv/**"}, "remove": {"/etc/**"}}}},
			{Host: &Host{May: "opaque"}}, {Host: &Host{May: "command"}},
		},
		Texts: []Text{{At: "web.yaml:9", Files: []string{"/etc/app/*.conf"}, Mask: password}, {At: "web.yaml:10", Exec: [][]string{{"app", "show"}}, Mask: password}},
	}}}
	exec := func(words ...string) abi.Operation {
		return abi.Operation{Verb: "exec", Kind: abi.KindProgram, Object: words}
	}
	file := func(verb, path string) abi.Operation {
		e := abi.EffectWrite
		if verb == "read" || verb == "stat" || verb == "list" {
			e = abi.EffectRead
		}
		return abi.Operation{Verb: verb, Kind: abi.KindFile, Object: []string{path}, Effect: e}
	}
	for name, c := range map[string]struct {
		ops     []abi.Operation
		allowed bool
		masks   int
	}{
		"a program with its mask":              {[]abi.Operation{exec("app", "show")}, true, 1},
		"another":                              {[]abi.Operation{exec("uptime")}, true, 0},
		"a file that is masked, by cat":        {[]abi.Operation{exec("cat", "/etc/app/x.conf")}, false, 0},
		"a file that is not":                   {[]abi.Operation{exec("cat", "/etc/app/x")}, true, 0},
		"behind an equals sign":                {[]abi.Operation{exec("tool", "--file=/etc/app/x.conf")}, false, 0},
		"its directory":                        {[]abi.Operation{exec("grep", "-r", "x", "/etc/app")}, false, 0},
		"its directory, with a slash":          {[]abi.Operation{exec("ls", "/etc/app/")}, false, 0},
		"a directory above, behind an option":  {[]abi.Operation{exec("cc", "-I/etc")}, false, 0},
		"all directories":                      {[]abi.Operation{exec("du", "/")}, false, 0},
		"all directories, in an option":        {[]abi.Operation{exec("tool", "--root=/")}, false, 0},
		"a file, by more slashes":              {[]abi.Operation{exec("cat", "/etc//app/./x.conf")}, false, 0},
		"a file, by a way around":              {[]abi.Operation{exec("cat", "/srv/../etc/app/x.conf")}, false, 0},
		"another directory":                    {[]abi.Operation{exec("ls", "/etc/apps")}, true, 0},
		"a slash at the end":                   {[]abi.Operation{exec("df", "etc/")}, true, 0},
		"a file that is masked, by sftp":       {[]abi.Operation{file("read", "/etc/app/x.conf")}, true, 1},
		"read from":                            {[]abi.Operation{exec("cat"), file("read", "/etc/app/x.conf")}, true, 1},
		"read from by what shows it otherwise": {[]abi.Operation{exec("base64"), file("read", "/etc/app/x.conf")}, false, 0},
		"read from by what shows a part":       {[]abi.Operation{exec("tail", "-c", "8"), file("read", "/etc/app/x.conf")}, false, 0},
		"read from by what has a mask":         {[]abi.Operation{exec("app", "show"), file("read", "/etc/app/x.conf")}, true, 2},
		"another read from":                    {[]abi.Operation{exec("base64"), file("read", "/etc/app/x")}, true, 0},
		"its directory renamed":                {[]abi.Operation{file("rename", "/etc/app"), file("write", "/srv/x")}, false, 0},
		"its directory linked":                 {[]abi.Operation{file("link", "/srv/x"), file("link", "/etc/app")}, false, 0},
		"one beside it renamed":                {[]abi.Operation{file("rename", "/etc/app/x.tmp"), file("write", "/srv/x")}, true, 0},
		"another directory renamed":            {[]abi.Operation{file("rename", "/etc/apps"), file("write", "/srv/x")}, true, 0},
		"read from and written":                {[]abi.Operation{exec("cat"), file("read", "/etc/app/x.conf"), file("write", "/srv/x")}, false, 0},
		"into another program":                 {[]abi.Operation{exec("app", "show"), exec("cat")}, false, 0},
		"read and written":                     {[]abi.Operation{file("read", "/etc/app/x.conf"), file("write", "/etc/app/x.conf")}, false, 0},
		"its size":                             {[]abi.Operation{file("stat", "/etc/app/x.conf")}, true, 1},
		"sizes in its directory":               {[]abi.Operation{file("list", "/etc/app")}, true, 1},
		"in another directory":                 {[]abi.Operation{file("list", "/srv")}, true, 0},
		"written":                              {[]abi.Operation{file("write", "/etc/app/x.conf")}, true, 0},
		"renamed":                              {[]abi.Operation{file("rename", "/etc/app/x.conf"), file("write", "/srv/x")}, false, 0},
		"linked":                               {[]abi.Operation{file("link", "/srv/x"), file("link", "/etc/app/x.conf")}, false, 0},
		"removed":                              {[]abi.Operation{file("remove", "/etc/app/x.conf")}, true, 0},
		"a text that is not understood":        {[]abi.Operation{{Verb: "exec", Kind: abi.KindOpaque, Object: []string{"$x"}}}, false, 0},
		"the gateway's own shell":              {[]abi.Operation{{Verb: "shell", Kind: abi.KindTerminal}}, true, 0},
	} {
		st := &abi.Statement{Protocol: "ssh", Operations: c.ops}
		if c.ops[0].Kind == abi.KindOpaque {
			st.Incomplete = "a substitution"
		}
		var v abi.Verdict
		config.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: "web"}, Statement: st}, &v)
		if (v.Decision == abi.Allow) != c.allowed || c.allowed && len(v.Protect) != c.masks {
			t.Errorf("%s: %v %q, %d masks", name, v.Decision, v.Reason.Message, len(v.Protect))
		}
		if !c.allowed && v.Reason.Hint == "" {
			t.Errorf("%s: no hint", name)
		}
	}
}
