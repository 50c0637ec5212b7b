package journal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The names of the files of a log.
const (
	fileKey         = "key"     // two lines: the note signer's key, the key of the digests
	filePub         = "key.pub" // one line: the note verifier's key
	fileLock        = "lock"
	fileEntries     = "entries"
	fileHashes      = "hashes"
	fileCheckpoints = "checkpoints"
)

// hmacPrefix starts the second line of the key file.
const hmacPrefix = "HMAC+KEY+"

// keys are what makes a log this log and no other.
type keys struct {
	signer   note.Signer
	verifier note.Verifier
	pub      string // the verifier's key, as text
	mac      []byte // 32 bytes
}

// makeKeys makes new keys. The log's name, which is the checkpoints' origin,
// is as random as they are: two logs never share it.
func makeKeys() ([]byte, error) {
	skey, _, err := note.GenerateKey(rand.Reader, "carapace.audit/"+NewID())
	if err != nil {
		return nil, err
	}
	var mac [32]byte
	rand.Read(mac[:])
	return []byte(skey + "\n" + hmacPrefix + base64.StdEncoding.EncodeToString(mac[:]) + "\n"), nil
}

// parseKeys reads the key file.
func parseKeys(b []byte) (*keys, error) {
	skey, rest, ok := strings.Cut(string(b), "\n")
	macLine, end, ok2 := strings.Cut(rest, "\n")
	if !ok || !ok2 || end != "" || !strings.HasPrefix(macLine, hmacPrefix) {
		return nil, errors.New("not a key file of this log")
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, errors.New("the signing key cannot be read")
	}
	mac, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(macLine, hmacPrefix))
	if err != nil || len(mac) != 32 {
		return nil, errors.New("the key of the digests cannot be read")
	}
	k := &keys{signer: signer, mac: mac}
	if k.pub, err = publicKey(skey); err != nil {
		return nil, err
	}
	if k.verifier, err = note.NewVerifier(k.pub); err != nil {
		return nil, fmt.Errorf("the signing key has no public half: %w", err)
	}
	return k, nil
}

// loadKeys reads the folder's keys, and makes them when there are none and
// fresh says that the log is empty: a log that has lost its key is never given
// another.
func loadKeys(d *folder, fresh bool) (*keys, error) {
	path := filepath.Join(d.path, fileKey)
	b, err := d.read(fileKey, os.O_RDWR, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if !fresh {
			return nil, fmt.Errorf("%s is missing, but there is a log", path)
		}
		if b, err = makeKeys(); err == nil {
			err = d.replace(fileKey, b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read audit key: %w", err)
	}
	k, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("read audit key %s: %w", path, err)
	}
	pub, err := d.read(filePub, os.O_RDWR, 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = d.replace(filePub, []byte(k.pub+"\n"))
	case err == nil && !bytes.Equal(pub, []byte(k.pub+"\n")):
		err = fmt.Errorf("%s does not belong to %s", filepath.Join(d.path, filePub), path)
	}
	if err != nil {
		return nil, fmt.Errorf("read audit key: %w", err)
	}
	return k, nil
}

// loadVerifier reads the public half alone: what Verify needs.
func loadVerifier(d *folder) (note.Verifier, error) {
	b, err := d.read(filePub, os.O_RDONLY, 4096)
	if err != nil {
		return nil, fmt.Errorf("read public audit key: %w", err)
	}
	v, err := note.NewVerifier(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return nil, fmt.Errorf("read public audit key %s: %w", filepath.Join(d.path, filePub), err)
	}
	return v, nil
}

// digest is the keyed hash of parts. Each part is preceded by its length, so
// that no two lists of parts read the same.
func (k *keys) digest(parts ...string) string {
	h := hmac.New(sha256.New, k.mac)
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0])[:16])
}

// publicKey derives the verifier's key from the signer's.
func publicKey(skey string) (string, error) {
	f := strings.SplitN(skey, "+", 5)
	if len(f) != 5 {
		return "", errors.New("the signing key cannot be read")
	}
	raw, err := base64.StdEncoding.DecodeString(f[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("the signing key cannot be read")
	}
	pub := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(f[2], pub)
}
