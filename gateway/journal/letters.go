package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// columns are those of a letter without its content.
const columns = `id, time, channel, direction, verb, peer, reason, rule, state, client, client_uid, digest, count`

// scanLetter reads columns, and then what rest points to.
func scanLetter(scan func(...any) error, l *Letter, rest ...any) error {
	return scan(append([]any{&l.ID, &l.Time, &l.Channel, &l.Direction, &l.Verb, &l.Peer, &l.Reason, &l.Rule,
		&l.State, &l.Client, &l.ClientUID, &l.Digest, &l.Count}, rest...)...)
}

// List returns all letters, newest first, without their bodies and operations.
// Everything that was taken before is in it; if it cannot be written, what can
// be seen is.
func (o *Outbox) List(ctx context.Context) ([]Letter, error) {
	if err := o.settle(ctx); err != nil {
		return nil, fmt.Errorf("list letters: %w", err)
	}
	rows, err := o.db.QueryContext(ctx, `SELECT `+columns+` FROM letters ORDER BY time DESC, n DESC`)
	if err != nil {
		return nil, fmt.Errorf("list letters: %w", err)
	}
	defer rows.Close()
	var all []Letter
	for rows.Next() {
		var l Letter
		if err := scanLetter(rows.Scan, &l); err != nil {
			return nil, fmt.Errorf("list letters: %w", err)
		}
		all = append(all, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list letters: %w", err)
	}
	return all, nil
}

// Get returns the letter with this id, or the only one whose id starts with
// it, with its content. ErrNotFound, ErrAmbiguous.
func (o *Outbox) Get(ctx context.Context, id string) (Letter, error) {
	var l Letter
	if !validID(id) {
		return l, fmt.Errorf("letter %q: %w", cut(id, maxName), ErrNotFound)
	}
	if err := o.settle(ctx); err != nil {
		return l, fmt.Errorf("get letter %s: %w", id, err)
	}
	const query = `SELECT ` + columns + `, body, operation FROM letters WHERE `
	err := scanLetter(o.db.QueryRowContext(ctx, query+`id = ?`, id).Scan, &l, &l.Body, &l.Operation)
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return l, fmt.Errorf("get letter %s: %w", id, err)
	}
	rows, err := o.db.QueryContext(ctx, query+`substr(id, 1, length(?1)) = ?1 LIMIT 2`, id)
	if err != nil {
		return l, fmt.Errorf("get letter %s: %w", id, err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		if found++; found > 1 {
			return Letter{}, fmt.Errorf("letter %s: %w", id, ErrAmbiguous)
		}
		if err := scanLetter(rows.Scan, &l, &l.Body, &l.Operation); err != nil {
			return Letter{}, fmt.Errorf("get letter %s: %w", id, err)
		}
	}
	if err := rows.Err(); err != nil {
		return Letter{}, fmt.Errorf("get letter %s: %w", id, err)
	}
	if found == 0 {
		return l, fmt.Errorf("letter %s: %w", id, ErrNotFound)
	}
	return l, nil
}

// Has reports whether there is a letter with exactly this id.
func (o *Outbox) Has(ctx context.Context, id string) (bool, error) {
	if err := o.settle(ctx); err != nil {
		return false, fmt.Errorf("look for letter %s: %w", cut(id, maxName), err)
	}
	var has bool
	if err := o.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM letters WHERE id = ?)`, id).Scan(&has); err != nil {
		return false, fmt.Errorf("look for letter %s: %w", cut(id, maxName), err)
	}
	return has, nil
}

// settle waits until the writer has tried to write what was taken. That it
// could not is no reason to show nothing.
func (o *Outbox) settle(ctx context.Context) error {
	err := o.do(ctx, func(*work) error { return nil })
	if errors.Is(err, ErrOutboxClosed) || ctx.Err() != nil {
		return err
	}
	return nil
}
