package store

import (
	"database/sql"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/auth"
	"github.com/taskgate/taskgate/core/store/storetest"
)

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?#%.db") // a path is no URL
	storetest.Run(t, func(t *testing.T) auth.Store {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
	storetest.Requests(t, func(t *testing.T) approval.Store {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
}

func TestNewerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
}

// A file of every version before this one is brought to it, and keeps what it had.
func TestOlderIsMigrated(t *testing.T) {
	for version := range migrations {
		path := filepath.Join(t.TempDir(), "x.db")
		old, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range migrations[:version] {
			if _, err := old.Exec(m); err != nil {
				t.Fatal(err)
			}
		}
		if version > 0 {
			if _, err := old.Exec(`INSERT INTO logins (id, issuer, subject, groups, refreshed, started, expires) VALUES ('one', 'https://idp', 'ada', '["task:x"]', 1, 2, 3);
				INSERT INTO tokens (hash, login, task, resource, expires) VALUES (zeroblob(32), 'one', 'x', 'r', 4)`); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := old.Exec("PRAGMA user_version = " + strconv.Itoa(version)); err != nil {
			t.Fatal(err)
		}
		old.Close()
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if version > 0 {
			l, err := s.Login(t.Context(), "one")
			if err != nil || l.Subject != "ada" || len(l.Groups) != 1 || l.Ended != "" || l.Asserted.Unix() != 0 || l.Expires.Unix() != 3 {
				t.Errorf("version %d: %+v %v", version, l, err)
			}
			if k, err := s.Token(t.Context(), [32]byte{}); err != nil || k.Task != "x" || k.Audience != auth.Data || len(k.From) != 0 || k.Expires.Unix() != 4 {
				t.Errorf("version %d: %+v %v", version, k, err)
			}
			next := *l
			next.Asserted = time.Unix(9, 0)
			if err := s.Refreshed(t.Context(), &next); err != nil {
				t.Error(err)
			}
		}
		s.Close()
	}
}

// A migration that fails leaves the file as it was, for the program that wrote it.
func TestMigrationFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole := migrations
	migrations = append(slices.Clone(migrations), "CREATE TABLE half (x) STRICT", "DROP TABLE tokens; CREATE TABLE half (x); SELECT nothing")
	_, err = Open(t.Context(), path)
	migrations = whole
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if s, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var n int
	if err := s.db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half' OR name = 'tokens'").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
}

// On a full disk nothing is written by half, and what is there is there.
func TestDiskFull(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.db.SetMaxOpenConns(1) // the limit is a connection's
	now := time.Unix(1_800_000_000, 0)
	add := func(id string, b byte, groups ...string) error {
		return s.AddLogin(t.Context(), &auth.Record{ID: id, Groups: groups, Started: now, Expires: now.Add(time.Hour)}, &auth.Token{Hash: [32]byte{b}, Login: id, Expires: now.Add(time.Hour)})
	}
	if err := add("one", 1, "task:x"); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec("PRAGMA max_page_count = " + strconv.Itoa(pages)); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("task:x", 4096)
	if err := add("two", 2, big); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if err := s.Refreshed(t.Context(), &auth.Record{ID: "one", Groups: []string{big}}); err == nil || errors.Is(err, auth.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if _, err := s.Token(t.Context(), [32]byte{2}); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("half of a login was kept: %v", err)
	}
	if l, err := s.Login(t.Context(), "one"); err != nil || len(l.Groups) != 1 || l.Groups[0] != "task:x" {
		t.Errorf("%+v %v", l, err)
	}
	if err := s.EndLogin(t.Context(), "one", "logout", now); err != nil {
		t.Errorf("a login cannot be ended: %v", err)
	}
}

// What is in a row and is not understood is a fault, and no right.
func TestRowsThatAreNotUnderstood(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Unix(1_800_000_000, 0)
	if err := s.AddLogin(t.Context(), &auth.Record{ID: "one", Started: now, Expires: now}, &auth.Token{Login: "one", From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec("UPDATE logins SET groups = 'task:x'; UPDATE tokens SET addresses = 'everywhere'"); err != nil {
		t.Fatal(err)
	}
	if l, err := s.Login(t.Context(), "one"); err == nil || errors.Is(err, auth.ErrUnknown) {
		t.Errorf("%+v %v", l, err)
	}
	if k, err := s.Token(t.Context(), [32]byte{}); err == nil || errors.Is(err, auth.ErrUnknown) {
		t.Errorf("%+v %v", k, err)
	}
}

// A store that another program has locked says so, and is not waited for without end.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec("PRAGMA busy_timeout = 10"); err != nil {
		t.Fatal(err)
	}
	if err := s.EndLogin(t.Context(), "x", "y", time.Now()); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Error(err)
	}
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "locked") || !strings.Contains(err.Error(), path) {
		t.Errorf("opened beside it: %v", err)
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}
