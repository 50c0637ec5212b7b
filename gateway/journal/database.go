package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// The database says what it is: "CpOb", and which tables it has.
const (
	applicationID = 0x43704f62
	schemaVersion = 1
)

const schema = `
CREATE TABLE letters (
	n          INTEGER PRIMARY KEY,
	id         TEXT    NOT NULL UNIQUE,
	time       TEXT    NOT NULL,
	changed    TEXT    NOT NULL,
	channel    TEXT    NOT NULL,
	direction  TEXT    NOT NULL,
	verb       TEXT    NOT NULL,
	peer       TEXT    NOT NULL,
	reason     TEXT    NOT NULL,
	rule       TEXT    NOT NULL,
	state      TEXT    NOT NULL,
	client     TEXT    NOT NULL,
	client_uid INTEGER NOT NULL,
	digest     TEXT    NOT NULL,
	count      INTEGER NOT NULL,
	size       INTEGER NOT NULL,
	body       TEXT    NOT NULL,
	operation  BLOB
) STRICT;
CREATE INDEX letters_state ON letters (state, changed);
PRAGMA application_id = 0x43704f62;
PRAGMA user_version = 1;
`

// What SQLite says of a file that it cannot make sense of.
const (
	sqliteError   = 1
	sqliteCorrupt = 11
	sqliteNotADB  = 26
)

// What SQLite says when it is not the statement's fault: busy, locked, no
// memory, read-only, input/output, full, cannot open.
var sqlitePassing = []int{5, 6, 7, 8, 10, 13, 14}

// errDamaged is our own word for the same.
var errDamaged = errors.New("the outbox is damaged")

// damaged reports whether err is about what the file says, and not about
// reading it.
func damaged(err error) bool {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()&0xff == sqliteCorrupt || e.Code()&0xff == sqliteNotADB
	}
	return errors.Is(err, errDamaged)
}

// passing reports whether the same may work later.
func passing(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && slices.Contains(sqlitePassing, e.Code()&0xff)
}

// openDatabase opens the database of letters. One that is damaged is moved
// aside, whole, and a new one begun: the audit log is the truth about what
// happened, and a gateway that does not start protects nobody.
func openDatabase(path string, log *slog.Logger) (*sql.DB, error) {
	db, err := tryDatabase(path)
	if err == nil || !damaged(err) {
		return db, err
	}
	aside, moveErr := moveAside(path)
	if moveErr != nil {
		return nil, fmt.Errorf("move the damaged outbox aside: %w (it is damaged: %w)", moveErr, err)
	}
	log.Error("the outbox is damaged: it was moved aside and an empty one begun; the audit log has what happened",
		"path", path, "moved_to", aside, "error", err)
	return tryDatabase(path)
}

// tryDatabase opens path, makes the tables if it is empty, and checks it.
func tryDatabase(path string) (_ *sql.DB, err error) {
	if err := prepareFiles(path); err != nil {
		return nil, err
	}
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)", "temp_store(MEMORY)",
		"fullfsync(ON)", "checkpoint_fullfsync(ON)", // macOS: fsync alone stays in the drive's cache
		"trusted_schema(OFF)", "cell_size_check(ON)",
	} {
		q.Add("_pragma", p)
	}
	u := url.URL{Path: path}
	db, err := sql.Open("sqlite", "file:"+u.EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	db.SetMaxOpenConns(4)
	ctx := context.Background()
	var app, version, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err != nil {
		return nil, err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return nil, err
	}
	if tables == 0 && app == 0 && version == 0 {
		return db, begin(ctx, db)
	}
	if app == applicationID && version > schemaVersion {
		return nil, fmt.Errorf("it was written by a later version (tables %d, this one knows %d)", version, schemaVersion)
	}
	if app != applicationID || version != schemaVersion {
		return nil, fmt.Errorf("%w: it is another database (application %#x, tables %d)", errDamaged, app, version)
	}
	return db, check(ctx, db)
}

// begin makes the tables, all or none.
func begin(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	return tx.Commit()
}

// check reads the whole database.
func check(ctx context.Context, db *sql.DB) error {
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, said)
	}
	// The tables must be those of the version that the file claims.
	rows, err := db.QueryContext(ctx, "SELECT "+columns+", n, changed, size FROM letters LIMIT 0")
	if err != nil {
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code()&0xff == sqliteError {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		return err
	}
	return rows.Close()
}

// prepareFiles makes the database's file with the mode that SQLite then gives
// to the files beside it, and refuses links and what is not ours.
func prepareFiles(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		st, err := os.Lstat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := plainFile(st, path+suffix, true); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// moveAside renames the database and what belongs to it. The log files go
// first: SQLite would write them into the next database of that name.
func moveAside(path string) (string, error) {
	stamp := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	aside := stamp
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		aside = fmt.Sprintf("%s-%d", stamp, i)
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !(suffix != "" && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return aside, syncDir(filepath.Dir(path))
}
