package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgate/taskgate/core/approval"
)

// AddRequest implements approval.Store.
func (s *Store) AddRequest(ctx context.Context, c *approval.Card) error {
	card, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	brief, err := json.Marshal(c.Slim())
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.change(ctx, "INSERT INTO requests (id, state, since, until, card, brief) VALUES (?, ?, ?, ?, ?, ?)",
		c.ID, string(c.State), c.Since.UnixNano(), c.Until.UnixNano(), string(card), string(brief))
}

// Forget implements approval.Store.
func (s *Store) Forget(ctx context.Context, before time.Time, most int) error {
	st, err := s.prepare(ctx, "DELETE FROM requests WHERE ended IS NOT NULL AND (ended < ? OR ended <= (SELECT ended FROM requests WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT 1 OFFSET ?))")
	if err == nil {
		_, err = st.ExecContext(ctx, before.UnixNano(), most)
	}
	return wrapRequest(err)
}

const columns = " AS card, id, state, until, ended, why, command, outcome"

// Request implements approval.Store.
func (s *Store) Request(ctx context.Context, id string) (*approval.Card, error) {
	list, err := s.requests(ctx, "SELECT card"+columns+" FROM requests WHERE id = ?", id)
	if err == nil && len(list) == 0 {
		err = approval.ErrUnknown
	}
	if err != nil {
		return nil, wrapRequest(err)
	}
	return list[0], nil
}

// Requests implements approval.Store.
func (s *Store) Requests(ctx context.Context, open bool, n int) ([]*approval.Card, error) {
	where := ""
	if open {
		where = " WHERE state IN ('waiting', 'approved')"
	}
	list, err := s.requests(ctx, "SELECT brief"+columns+" FROM requests"+where+" ORDER BY since DESC LIMIT ?", n)
	return list, wrapRequest(err)
}

// requests reads cards with their voices, as one look at the database.
func (s *Store) requests(ctx context.Context, query string, arg any) (list []*approval.Card, err error) {
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	of, err := s.prepare(ctx, "SELECT voice FROM voices WHERE request = ? ORDER BY at, person")
	if err != nil {
		return nil, err
	}
	tx, err := s.quick.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }() // it has only read
	rows, err := tx.StmtContext(ctx, st).QueryContext(ctx, arg)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, state, card, why, outcome string
		var until int64
		var ended sql.NullInt64
		var command uint64
		if err := rows.Scan(&card, &id, &state, &until, &ended, &why, &command, &outcome); err != nil {
			return nil, err
		}
		c := &approval.Card{}
		if err := json.Unmarshal([]byte(card), c); err != nil || c.ID != id {
			return nil, fmt.Errorf("request %s is not understood: %v", id, err)
		}
		c.State, c.Until, c.Why, c.Command, c.Outcome, c.Voices = approval.State(state), time.Unix(0, until).UTC(), why, command, outcome, []approval.Voice{}
		if ended.Valid {
			at := time.Unix(0, ended.Int64).UTC()
			c.Ended = &at
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	of = tx.StmtContext(ctx, of)
	for _, c := range list {
		if err := voices(ctx, of, c); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func voices(ctx context.Context, of *sql.Stmt, c *approval.Card) error {
	rows, err := of.QueryContext(ctx, c.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		var v approval.Voice
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("a voice of request %s is not understood: %w", c.ID, err)
		}
		c.Voices = append(c.Voices, v)
	}
	return rows.Err()
}

// AddVoice implements approval.Store.
func (s *Store) AddVoice(ctx context.Context, id, person string, v approval.Voice, next approval.State) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	at := v.At.UnixNano()
	update, err := s.prepare(ctx, "UPDATE requests SET state = ?1, ended = CASE WHEN ?1 IN ('waiting', 'approved') THEN NULL ELSE ?2 END, why = CASE WHEN ?1 IN ('waiting', 'approved') THEN '' ELSE ?3 END WHERE id = ?4 AND state = 'waiting' AND until > ?2")
	if err != nil {
		return wrapRequest(err)
	}
	insert, err := s.prepare(ctx, "INSERT INTO voices (request, person, at, voice) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
	if err != nil {
		return wrapRequest(err)
	}
	return wrapRequest(write(ctx, s.quick, func(tx *sql.Tx) error {
		if err := only(tx.StmtContext(ctx, update).ExecContext(ctx, string(next), at, v.Reason, id)); err != nil {
			return err
		}
		r, err := tx.StmtContext(ctx, insert).ExecContext(ctx, id, person, at, string(text))
		if err := only(r, err); errors.Is(err, approval.ErrOver) {
			return approval.ErrTwice
		} else if err != nil {
			return err
		}
		return nil
	}))
}

// Move implements approval.Store.
func (s *Store) Move(ctx context.Context, id string, from []approval.State, next approval.State, why string, at time.Time) error {
	args := []any{string(next), at.UnixNano(), why, id}
	for _, f := range from {
		args = append(args, string(f))
	}
	query := "UPDATE requests SET state = ?, ended = ?, why = ? WHERE id = ? AND state IN (?" + strings.Repeat(", ?", len(from)-1) + ")"
	if next == "used" {
		query += " AND until > ?"
		args = append(args, at.UnixNano())
	}
	return s.change(ctx, query, args...)
}

// change is a change of one request.
func (s *Store) change(ctx context.Context, query string, args ...any) error {
	st, err := s.prepare(ctx, query)
	if err != nil {
		return wrapRequest(err)
	}
	return wrapRequest(only(st.ExecContext(ctx, args...)))
}

// Ran implements approval.Store.
func (s *Store) Ran(ctx context.Context, id string, command uint64, outcome string) error {
	return s.change(ctx, "UPDATE requests SET command = ?, outcome = ? WHERE id = ? AND state = 'used'", int64(command), outcome, id)
}

// Act implements approval.Store.
func (s *Store) Act(ctx context.Context, id string, now, until time.Time, most int) error {
	return wrapRequest(write(ctx, s.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM actions WHERE until < ?", now.UnixNano()); err != nil {
			return err
		}
		if err := only(tx.ExecContext(ctx, "INSERT INTO actions (id, until) VALUES (?, ?) ON CONFLICT DO NOTHING", id, until.UnixNano())); errors.Is(err, approval.ErrOver) {
			return approval.ErrTwice
		} else if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM actions").Scan(&n); err != nil {
			return err
		}
		if n > most {
			return approval.ErrMany
		}
		return nil
	}))
}

// Unact implements approval.Store.
func (s *Store) Unact(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM actions WHERE id = ?", id)
	return wrapRequest(err)
}

// Forsake implements approval.Store.
func (s *Store) Forsake(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "UPDATE requests SET outcome = 'unknown' WHERE state = 'used' AND outcome IN ('', 'pending')")
	return wrapRequest(err)
}

// only is of a change that has to have met a row.
func only(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		return approval.ErrOver
	}
	return err
}

func wrapRequest(err error) error {
	for _, known := range []error{nil, approval.ErrUnknown, approval.ErrOver, approval.ErrTwice, approval.ErrMany} {
		if errors.Is(err, known) {
			return known
		}
	}
	return fmt.Errorf("store: %w", err)
}
