package shell

import (
	"path"
	"slices"
)

// servers are programs that speak to a program at the other end of their input and
// output, whatever their words are.
var servers = set("rrsync git-upload-pack git-receive-pack git-upload-archive git-shell git-annex-shell git-lfs-transfer git-lfs-authenticate sftp-server internal-sftp mosh-server")

// serving are those that do so where one of these words stands among theirs.
var serving = map[string][]string{
	"git":          {"upload-pack", "receive-pack", "upload-archive"},
	"rsync":        {"--server"},
	"svnserve":     {"-t", "--tunnel"},
	"hg":           {"serve"},
	"bzr":          {"serve"},
	"brz":          {"serve"},
	"cvs":          {"server"},
	"fossil":       {"http", "test-http"},
	"borg":         {"serve"},
	"rclone":       {"serve"},
	"unison":       {"-server"},
	"nix-store":    {"--serve"},
	"nix-daemon":   {"--stdio"},
	"docker":       {"dial-stdio"},
	"podman":       {"dial-stdio"},
	"rdiff-backup": {"server", "--server"},
}

// Converses says whether a program is known to speak to another one in a way of
// their own, so that its output is no text that people read.
func Converses(argv []string) bool {
	name := path.Base(argv[0])
	return Confined(argv) || servers[name] || slices.ContainsFunc(serving[name], func(word string) bool {
		return slices.Contains(argv[1:], word)
	})
}
