package shell

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// elsewhere are programs that run others in a way that is not followed: out of
// their input, as somebody else, from a table, on another host.
var elsewhere = set(`
	xargs parallel rush entr
	su doas runuser run0 pkexec setpriv capsh chroot unshare nsenter sg newgrp login machinectl systemd-run start-stop-daemon daemonize
	busybox toybox sudoedit
	ssh slogin rsh rexec dbclient plink mosh sftp
	tmux screen byobu dtach abduco zellij script scriptreplay expect unbuffer rlwrap
	watch flock at batch strace ltrace fakeroot fakechroot proot firejail bwrap chrt taskset numactl prlimit choom setarch linux32 linux64 i386 x86_64
	run-parts dbus-run-session dbus-launch xvfb-run torsocks torify proxychains proxychains4 cgexec catchsegv faketime eatmydata valgrind
`)

// opaque refuses what runs another program that its words do not show, or show
// only to who knows all its options.
func opaque(argv []string) error {
	name, args := path.Base(argv[0]), argv[1:]
	switch {
	case elsewhere[name]:
		return fmt.Errorf("what %s runs is not known from its words: run that program itself", name)
	case strings.HasPrefix(name, "ld-linux"), strings.HasPrefix(name, "ld-musl"), strings.HasPrefix(name, "ld.so"), strings.HasPrefix(name, "ld64"):
		return fmt.Errorf("%s runs the program that it is given: run that program itself", name)
	case name == "sftp-server", name == "internal-sftp":
		return fmt.Errorf("%s by exec hides which files are meant: use sftp, whose files are judged one by one", name)
	case name == "scp":
		return scp(args)
	case name == "rsync":
		return rsync(argv)
	case name == "find":
		return find(args)
	case name == "tar", name == "gtar", name == "bsdtar", name == "star":
		return tar(name, args)
	case name == "git":
		return git(args)
	}
	return nil
}

func runs(name, arg string) error {
	return fmt.Errorf("%s %s may run another program: leave that option out", name, show(arg))
}

func scp(args []string) error {
	for _, a := range args {
		if len(a) < 2 || a[0] != '-' || a[1] == '-' {
			continue
		}
		if strings.ContainsAny(a, "tf") {
			return fmt.Errorf("scp %s hides which files are meant: let scp use sftp (without -O), whose files are judged one by one", show(a))
		}
		if strings.ContainsAny(a, "SDFJo") {
			return runs("scp", a)
		}
	}
	return nil
}

func rsync(argv []string) error {
	if serves(argv) {
		return errServer(argv)
	}
	for _, a := range argv[1:] {
		switch {
		case abbreviates(a, "rsh", "rsync-path", "config", "dparam"), len(a) > 1 && a[0] == '-' && a[1] != '-' && strings.ContainsAny(a, "eM"):
			return runs("rsync", a)
		}
	}
	return nil
}

func find(args []string) error {
	for _, a := range args {
		switch a {
		case "-exec", "-execdir", "-ok", "-okdir":
			return runs("find", a)
		case "-delete", "-fprint", "-fprint0", "-fprintf", "-fls":
			return fmt.Errorf("find %s changes files that its words do not name: leave it out, and name them", a)
		}
	}
	return nil
}

func tar(name string, args []string) error {
	for i, a := range args {
		// Letters may stand together, and the first word needs no dash.
		short := len(a) > 1 && a[0] == '-' && a[1] != '-' || i == 0 && a != "" && a[0] != '-'
		if short && strings.ContainsAny(a, "IF") ||
			abbreviates(a, "checkpoint-action", "to-command", "use-compress-program", "info-script", "new-volume-script", "rsh-command", "rmt-command", "use-compress") {
			return runs(name, a)
		}
	}
	return nil
}

func git(args []string) error {
	has := func(words ...string) bool {
		return slices.ContainsFunc(args, func(a string) bool { return slices.Contains(words, a) })
	}
	for i, a := range args {
		// A setting may name a program, and has a dot in its name: no branch is
		// mistaken for one by who leaves dots out of it.
		setting, ok := strings.CutPrefix(a, "-c")
		if setting == "" && i+1 < len(args) {
			setting = args[i+1]
		}
		if ok && strings.Contains(setting, ".") || strings.Contains(a, "core.pager") || strings.HasPrefix(a, "ext::") ||
			abbreviates(a, "config-env", "exec-path", "upload-pack", "receive-pack", "exec", "extcmd", "open-files-in-pager", "config", "template") ||
			strings.HasPrefix(a, "-O") && has("grep") || strings.HasPrefix(a, "-x") && has("rebase") || strings.HasPrefix(a, "-u") && has("clone") {
			return runs("git", a)
		}
	}
	if has("bisect") && has("run") || has("submodule") && has("foreach") || has("filter-branch", "difftool", "mergetool") {
		return errors.New("git is to run another program here: run that program itself")
	}
	return nil
}

// abbreviates is true of a long option that is one of these, or may be its
// beginning, as getopt_long has it.
func abbreviates(arg string, names ...string) bool {
	long, ok := strings.CutPrefix(arg, "--")
	if !ok {
		return false
	}
	long, _, _ = strings.Cut(long, "=")
	for _, n := range names {
		if long != "" && strings.HasPrefix(n, long) {
			return true
		}
	}
	return false
}
