package shell

import (
	"strings"
	"testing"
)

func TestConverses(t *testing.T) {
	for text, want := range map[string]bool{
		"git-upload-pack /srv/x":                   true,
		"/usr/bin/git-receive-pack /srv/x":         true,
		"git -C /srv upload-pack x":                true,
		"git log":                                  false,
		"rsync --server --sender -logDtpre.iLsfxC": true,
		"rsync -a /a /b":                           false,
		"docker system dial-stdio":                 true,
		"docker ps":                                false,
		"borg serve":                               true,
		"cat":                                      false,
	} {
		if got := Converses(strings.Fields(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
