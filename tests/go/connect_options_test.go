// SPDX-License-Identifier: MIT
// Waiting for a peer that is not there yet, a monitor's name, and traces of the wire.

package blockjob_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/libvirtd"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

type dialResult struct {
	monitor *blockjob.Monitor
	err     error
}

func dialing(ctx context.Context, uri string, options ...blockjob.DialOption) <-chan dialResult {
	result := make(chan dialResult, 1)
	go func() {
		m, err := blockjob.Dial(ctx, uri, options...)
		result <- dialResult{m, err}
	}()
	return result
}

func TestW04ASocketThatComesLater(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "later.qmp")
	waiting := dialing(patience(t), path, blockjob.WithWait(blockjob.Forever))

	// QEMU gets its socket before it is ready to serve it; here it is where the client waits, once it is.
	q := qemu.Daemon(t)
	ok(t, os.Rename(q.Path, path))
	d := <-waiting
	ok(t, d.err)
	defer d.monitor.Close()
	ok(t, d.monitor.Execute(patience(t), "query-version", nil, nil))
}

func TestW04ASocketThatNeverComes(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "never.qmp")
	_, err := blockjob.Dial(patience(t), path, blockjob.WithWait(150*time.Millisecond))
	fails(t, err, blockjob.ErrConnect, path, "waited 0.15 s", "No such file")

	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	_, err = blockjob.Dial(ctx, path, blockjob.WithWait(time.Hour))
	fails(t, err, blockjob.ErrTimeout, path)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not the context's: %v", err)
	}
}

func TestW04WhatIsWrongForGoodFailsAtOnce(t *testing.T) {
	file := filepath.Join(qemu.TempDir(t), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	forever := blockjob.WithWait(blockjob.Forever)

	_, err := blockjob.Dial(context.Background(), filepath.Join(file, "qmp"), forever)
	fails(t, err, blockjob.ErrConnect, "Not a directory")
	_, err = blockjob.Dial(context.Background(), "tcp:host", forever)
	fails(t, err, blockjob.ErrInvalid)
	_, err = blockjob.Dial(context.Background(), file, blockjob.WithWait(-1))
	fails(t, err, blockjob.ErrInvalid, "WithWait")
}

func TestW04AWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	waiting := dialing(ctx, filepath.Join(qemu.TempDir(t), "never.qmp"), blockjob.WithWait(blockjob.Forever))
	cancel()
	if d := <-waiting; !errors.Is(d.err, context.Canceled) {
		t.Errorf("%v", d.err)
	}
}

func TestW04ADomainThatIsStartedLater(t *testing.T) {
	host := libvirtd.Shared(t)
	d := host.InactiveDomain(t)
	_, err := blockjob.Dial(patience(t), d.URI, blockjob.WithWait(100*time.Millisecond))
	fails(t, err, blockjob.ErrConnect, "waited 0.1 s", d.URI)

	waiting := dialing(patience(t), d.URI, blockjob.WithWait(blockjob.Forever))
	_, err = host.Virsh("start", "--paused", d.Name)
	ok(t, err)
	made := <-waiting
	ok(t, made.err)
	made.monitor.Close()
}

func TestW09ANameIsInErrors(t *testing.T) {
	q := qemu.Daemon(t)
	conn, err := net.Dial("unix", q.Path)
	ok(t, err)
	file, err := conn.(*net.UnixConn).File()
	conn.Close()
	ok(t, err)
	defer file.Close()
	uri := fmt.Sprintf("fd:%d", file.Fd())
	m := dial(t, uri, blockjob.WithName("vm1"))

	if m.Name() != "vm1" || !strings.HasPrefix(m.String(), "monitor vm1 "+uri) {
		t.Errorf("%q, %v", m.Name(), m)
	}
	q.Kill()
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected, "vm1 ("+uri+")")
	_, err = blockjob.Dial(patience(t), q.URI, blockjob.WithName(strings.Repeat("n", 201)))
	fails(t, err, blockjob.ErrInvalid, "200 bytes")
	_, err = blockjob.Dial(patience(t), q.URI, blockjob.WithName("\xff"))
	fails(t, err, blockjob.ErrInvalid, "name")
}

func TestAMonitorWithoutANameGoesByItsURI(t *testing.T) {
	q := qemu.Daemon(t)
	if m := dial(t, q.URI); m.Name() != q.URI || strings.Count(m.String(), q.URI) != 1 {
		t.Errorf("%q, %v", m.Name(), m)
	}
}

func TestW09EveryLineFromTheGreetingOn(t *testing.T) {
	q := qemu.Daemon(t)
	var lines []blockjob.TraceLine
	m := dial(t, q.URI, blockjob.WithName("vm1"), blockjob.WithTrace(func(line blockjob.TraceLine) {
		lines = append(lines, line)
	}))
	ok(t, m.Execute(patience(t), "query-version", nil, nil))
	m.Close() // after that the function is not called

	if len(lines) != 7 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i, line := range lines {
		if line.Sent != (i%2 == 1) || line.Name != "vm1" || line.Lost != 0 || line.Time.IsZero() {
			t.Errorf("line %d: %v", i, line)
		}
	}
	if !strings.HasPrefix(lines[0].String(), `vm1 < {"QMP":`) || !strings.HasPrefix(lines[5].String(), `vm1 > {"execute":"query-version"`) {
		t.Errorf("%v", lines)
	}
	if !json.Valid([]byte(lines[5].Text)) {
		t.Errorf("not the whole line: %v", lines[5])
	}
}

func TestW09SecretsAreMaskedIfAsked(t *testing.T) {
	q := qemu.Daemon(t)
	for _, masked := range []bool{false, true} {
		var all strings.Builder
		options := []blockjob.DialOption{blockjob.WithTrace(func(line blockjob.TraceLine) {
			all.WriteString(line.Text)
		})}
		if masked {
			options = append(options, blockjob.WithSecretsMasked())
		}
		m := dial(t, q.URI, options...)
		secret := map[string]any{"qom-type": "secret", "id": fmt.Sprintf("s%v", masked), "data": "letmein"}
		ok(t, m.Execute(patience(t), "object-add", secret, nil))
		m.Close()
		if strings.Contains(all.String(), "letmein") == masked {
			t.Errorf("masked %v: %s", masked, all.String())
		}
	}
}

func TestW09ASlowTraceLosesTheOldestLinesAndCountsThem(t *testing.T) {
	const commands, kept, handshake = 40, 16, 5
	q := qemu.Daemon(t)
	goOn := make(chan struct{})
	var lines []blockjob.TraceLine
	m := dial(t, q.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 1), blockjob.WithTrace(func(line blockjob.TraceLine) {
		lines = append(lines, line)
		<-goOn
	}))
	for i := 0; i < commands; i++ {
		ok(t, m.Execute(patience(t), "query-version", nil, nil))
	}
	close(goOn)
	m.Close()

	var lost uint64
	for _, line := range lines {
		lost += line.Lost
	}
	if total := uint64(len(lines)) + lost; total != handshake+2*commands || len(lines) > kept+1 {
		t.Errorf("%d lines and %d lost", len(lines), lost)
	}
}

func TestW09ATraceOfAFailure(t *testing.T) {
	listener := serve(t, "unix", filepath.Join(qemu.TempDir(t), "odd"), func(conn net.Conn) {
		fmt.Fprintln(conn, `{"QMP": {}}`)
		conn.Read(make([]byte, 1000))
		fmt.Fprintln(conn, `{"error": {"class": "GenericError", "desc": "Not today"}}`)
	})
	var lines []blockjob.TraceLine
	_, err := blockjob.Dial(patience(t), "unix:"+listener.Addr().String(), blockjob.WithTrace(func(line blockjob.TraceLine) {
		lines = append(lines, line)
	}))
	fails(t, err, blockjob.ErrProtocol, "Not today")
	if len(lines) != 3 || !strings.Contains(lines[2].Text, "Not today") {
		t.Errorf("%v", lines)
	}
}

func TestATraceThatCanNotBe(t *testing.T) {
	d := libvirtd.Shared(t).InactiveDomain(t)
	_, err := blockjob.Dial(patience(t), d.URI, blockjob.WithTrace(func(blockjob.TraceLine) {}))
	fails(t, err, blockjob.ErrUnsupported, "libvirt")
	_, err = blockjob.Dial(patience(t), d.URI, blockjob.WithTrace(nil))
	fails(t, err, blockjob.ErrInvalid, "WithTrace")
}
