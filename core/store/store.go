// Package store keeps rows in SQLite: logins, tokens and requests for approval. Evidence is not here:
// the audit log is the truth, and this can be lost without losing any of it.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/taskgate/taskgate/core/auth"
)

// migrations bring a database from the version of their index to the next.
// What stands here once has shipped: it is never changed, only added to.
var migrations = []string{
	`CREATE TABLE logins (
		id TEXT PRIMARY KEY, issuer TEXT NOT NULL, subject TEXT NOT NULL, groups TEXT NOT NULL, sealed BLOB,
		refreshed INTEGER NOT NULL, started INTEGER NOT NULL, expires INTEGER NOT NULL, ended TEXT NOT NULL DEFAULT '', ended_at INTEGER
	) STRICT;
	CREATE INDEX logins_expires ON logins (expires);
	CREATE TABLE tokens (
		hash BLOB PRIMARY KEY, login TEXT NOT NULL REFERENCES logins (id) ON DELETE CASCADE,
		task TEXT NOT NULL, resource TEXT NOT NULL, expires INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX tokens_login ON tokens (login);`,
	`ALTER TABLE logins ADD COLUMN asserted INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE tokens ADD COLUMN addresses TEXT NOT NULL DEFAULT '';`,
	`ALTER TABLE tokens ADD COLUMN audience TEXT NOT NULL DEFAULT '';
	CREATE INDEX logins_subject ON logins (issuer, subject);
	CREATE TABLE requests (
		id TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, card TEXT NOT NULL, brief TEXT NOT NULL,
		ended INTEGER, why TEXT NOT NULL DEFAULT '', command INTEGER NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT ''
	) STRICT;
	CREATE INDEX requests_since ON requests (since);
	CREATE INDEX requests_state ON requests (state, since);
	CREATE INDEX requests_ended ON requests (ended) WHERE ended IS NOT NULL;
	CREATE TABLE voices (
		request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE, person TEXT NOT NULL, at INTEGER NOT NULL, voice TEXT NOT NULL,
		PRIMARY KEY (request, person)
	) STRICT, WITHOUT ROWID;`,
	`CREATE TABLE actions (id TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
	CREATE INDEX actions_until ON actions (until);`,
}

// keep is how long a login stays after it is over.
const keep = 30 * 24 * time.Hour

// Store is an open database. It is safe for concurrent use and implements
// auth.Store and approval.Store.
type Store struct {
	db *sql.DB // what it has answered is on disk

	// What is written of requests outlives the process at once, and a failure of
	// power with the next write of db: the log has had it on disk before, and no
	// request that was open outlives a start.
	quick *sql.DB

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // of quick, by their texts
}

// Open opens the database in a file, making it where it is missing, and brings
// it to the version of this program. One of a newer program is refused.
func Open(ctx context.Context, path string) (*Store, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would make it readable by others
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{prepared: map[string]*sql.Stmt{}}
	if s.db, err = connect(path, "FULL"); err != nil {
		return nil, fmt.Errorf("store: %s: %w", path, err)
	}
	if s.quick, err = connect(path, "NORMAL"); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %s: %w", path, err), s.db.Close())
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %s: %w", path, err), s.Close())
	}
	return s, nil
}

func connect(path, synchronous string) (*sql.DB, error) {
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)"}, "_txlock": {"immediate"}}.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err == nil {
		db.SetMaxOpenConns(4)
	}
	return db, err
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.quick.Close(), s.db.Close()) }

// prepare gives a statement of quick, parsed once for each connection. Not within
// a transaction: it may have to wait for a connection.
func (s *Store) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.prepared[text]; st != nil {
		return st, nil
	}
	st, err := s.quick.PrepareContext(ctx, text)
	if err == nil {
		s.prepared[text] = st
	}
	return st, err
}

func (s *Store) migrate(ctx context.Context) error {
	return write(ctx, s.db, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("it has version %d, and this program knows up to %d: it was written by a newer one", version, len(migrations))
		}
		for _, m := range migrations[version:] {
			if _, err := tx.ExecContext(ctx, m); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
		return err
	})
}

func write(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// AddLogin implements auth.Store. It also forgets logins that were over long ago.
func (s *Store) AddLogin(ctx context.Context, l *auth.Record, t *auth.Token) error {
	groups, err := json.Marshal(l.Groups)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	err = write(ctx, s.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM logins WHERE expires < ?", l.Started.Add(-keep).Unix()); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO logins (id, issuer, subject, groups, asserted, sealed, refreshed, started, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			l.ID, l.Issuer, l.Subject, string(groups), l.Asserted.Unix(), l.Sealed, l.Refreshed.Unix(), l.Started.Unix(), l.Expires.Unix()); err != nil {
			return err
		}
		return addToken(ctx, tx, t)
	})
	return wrap(err)
}

// Login implements auth.Store.
func (s *Store) Login(ctx context.Context, id string) (*auth.Record, error) {
	l := &auth.Record{ID: id}
	var groups string
	var asserted, refreshed, started, expires int64
	err := s.db.QueryRowContext(ctx, "SELECT issuer, subject, groups, asserted, sealed, refreshed, started, expires, ended FROM logins WHERE id = ?", id).
		Scan(&l.Issuer, &l.Subject, &groups, &asserted, &l.Sealed, &refreshed, &started, &expires, &l.Ended)
	if err != nil {
		return nil, wrap(err)
	}
	if err := json.Unmarshal([]byte(groups), &l.Groups); err != nil {
		return nil, fmt.Errorf("store: login %s: groups: %w", id, err)
	}
	l.Asserted, l.Refreshed, l.Started, l.Expires = time.Unix(asserted, 0), time.Unix(refreshed, 0), time.Unix(started, 0), time.Unix(expires, 0)
	return l, nil
}

// LoginsOf implements auth.Store.
func (s *Store) LoginsOf(ctx context.Context, issuer, subject string, at time.Time) (ids []string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id FROM logins WHERE issuer = ? AND subject = ? AND ended_at IS NULL AND expires > ? ORDER BY started DESC, rowid DESC", issuer, subject, at.Unix())
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, wrap(err)
		}
		ids = append(ids, id)
	}
	return ids, wrap(rows.Err())
}

// Refreshed implements auth.Store.
func (s *Store) Refreshed(ctx context.Context, l *auth.Record) error {
	groups, err := json.Marshal(l.Groups)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return wrap(affected(s.db.ExecContext(ctx, "UPDATE logins SET groups = ?, asserted = ?, sealed = ?, refreshed = ? WHERE id = ? AND ended_at IS NULL",
		string(groups), l.Asserted.Unix(), l.Sealed, l.Refreshed.Unix(), l.ID)))
}

// EndLogin implements auth.Store. The refresh token goes with it.
func (s *Store) EndLogin(ctx context.Context, id, why string, at time.Time) error {
	_, err := s.db.ExecContext(ctx, "UPDATE logins SET ended = ?, ended_at = ?, sealed = NULL WHERE id = ? AND ended_at IS NULL", why, at.Unix(), id)
	return wrap(err)
}

// AddToken implements auth.Store.
func (s *Store) AddToken(ctx context.Context, t *auth.Token) error {
	return wrap(write(ctx, s.db, func(tx *sql.Tx) error { return addToken(ctx, tx, t) }))
}

func addToken(ctx context.Context, tx *sql.Tx, t *auth.Token) error {
	var from []string
	for _, p := range t.From {
		from = append(from, p.String())
	}
	r, err := tx.ExecContext(ctx, "INSERT INTO tokens (hash, login, audience, task, resource, addresses, expires) SELECT ?, id, ?, ?, ?, ?, ? FROM logins WHERE id = ? AND ended_at IS NULL",
		t.Hash[:], string(t.Audience), t.Task, t.Resource, strings.Join(from, " "), t.Expires.Unix(), t.Login)
	return affected(r, err)
}

// Token implements auth.Store.
func (s *Store) Token(ctx context.Context, hash [32]byte) (*auth.Token, error) {
	t := &auth.Token{Hash: hash}
	var from string
	var expires int64
	err := s.db.QueryRowContext(ctx, "SELECT login, audience, task, resource, addresses, expires FROM tokens WHERE hash = ?", hash[:]).Scan(&t.Login, &t.Audience, &t.Task, &t.Resource, &from, &expires)
	if err != nil {
		return nil, wrap(err)
	}
	for _, f := range strings.Fields(from) {
		p, err := netip.ParsePrefix(f)
		if err != nil { // one that is not understood must not become none at all
			return nil, fmt.Errorf("store: token of login %s: addresses: %w", t.Login, err)
		}
		t.From = append(t.From, p)
	}
	t.Expires = time.Unix(expires, 0)
	return t, nil
}

func affected(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		return auth.ErrUnknown
	}
	return err
}

func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows), errors.Is(err, auth.ErrUnknown):
		return auth.ErrUnknown
	}
	return fmt.Errorf("store: %w", err)
}
