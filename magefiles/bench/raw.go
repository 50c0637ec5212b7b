package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
)

// socketMeasure times what any client of any daemon pays: a connection to a
// Unix socket and one line there and back, with nothing done in between.
func socketMeasure(path string, undo *cleanup) (measure, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return measure{}, fmt.Errorf("listen for the raw round trip: %w", err)
	}
	undo.add(l.Close)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, err := bufio.NewReader(c).ReadBytes('\n')
				if err == nil {
					c.Write(line)
				}
			}()
		}
	}()
	line := append(bytes.Repeat([]byte("x"), 63), '\n')
	return measure{socket, func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(line); err != nil {
			return err
		}
		got, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(got, line) {
			err = fmt.Errorf("sent %d bytes, got %d back", len(line), len(got))
		}
		return err
	}}, nil
}

// recordSize is about the size of one line of the audit log, in bytes.
const recordSize = 512

// appendMeasure times what durability costs on this disk, whoever asks for it.
func appendMeasure(path string, undo *cleanup) (measure, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return measure{}, fmt.Errorf("create the raw log: %w", err)
	}
	undo.add(func() error { f.Close(); return os.Remove(path) })
	record := append(bytes.Repeat([]byte("x"), recordSize-1), '\n')
	return measure{durable, func(context.Context) error {
		if _, err := f.Write(record); err != nil {
			return err
		}
		return syncData(f)
	}}, nil
}

// fsInfo is what a file system is called, and whether it forgets at power off.
type fsInfo struct {
	name   string
	memory bool
}
