// SPDX-License-Identifier: MIT
// Connecting, commands, and what bad input gets.

package blockjob_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"path/filepath"
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestWhatAMonitorKnows(t *testing.T) {
	q := qemu.Daemon(t)
	m := dial(t, q.URI)

	if m.URI() != q.URI {
		t.Errorf("URI %q", m.URI())
	}
	var version struct {
		QEMU struct{ Major, Minor, Micro int }
	}
	ok(t, m.Execute(patience(t), "query-version", nil, &version))
	if want := fmt.Sprintf("%d.%d.%d", version.QEMU.Major, version.QEMU.Minor, version.QEMU.Micro); m.QEMUVersion() != want {
		t.Errorf("version %q, want %q", m.QEMUVersion(), want)
	}
	for command, want := range map[string]bool{"blockdev-mirror": true, "blockdev-mirro": false, "": false} {
		has, err := m.HasCommand(command)
		ok(t, err)
		if has != want {
			t.Errorf("HasCommand(%q) is %v", command, has)
		}
	}
	if isClosed(m.Done()) || m.Err() != nil {
		t.Errorf("over already: %v", m.Err())
	}
}

func TestWaysToSayWhere(t *testing.T) {
	q := qemu.Daemon(t)

	dial(t, q.Path).Close()

	conn, err := net.Dial("unix", q.Path)
	ok(t, err)
	file, err := conn.(*net.UnixConn).File()
	conn.Close()
	ok(t, err)
	m := dial(t, fmt.Sprintf("fd:%d", file.Fd()))
	file.Close() // the library has its own
	ok(t, m.Execute(patience(t), "query-version", nil, nil))
}

func TestTCP(t *testing.T) {
	listener := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		io.WriteString(conn, `{"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 1}, "package": ""}, "capabilities": []}}`+"\r\n")
		decoder := json.NewDecoder(conn)
		for {
			var request struct{ ID json.RawMessage }
			if decoder.Decode(&request) != nil {
				return
			}
			fmt.Fprintf(conn, `{"return": [], "id": %s}`+"\r\n", request.ID)
		}
	})
	m := dial(t, "tcp:"+listener.Addr().String())
	if m.QEMUVersion() != "1.2.3" {
		t.Errorf("version %q", m.QEMUVersion())
	}
}

func TestWrongPath(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "nobody.qmp")
	_, err := blockjob.Dial(patience(t), "unix:"+path)
	fails(t, err, blockjob.ErrConnect, path)
	noGoroutines(t)
}

func TestNotAURI(t *testing.T) {
	for _, uri := range []string{"", "vm1", "unix:", "tcp:", "tcp:host", "tcp:host:port:more", "fd:", "fd:-1",
		"fd:x", "http://host/", "unix:/" + strings.Repeat("x", 200), "/run/\x00vm1.qmp"} {
		_, err := blockjob.Dial(patience(t), uri)
		fails(t, err, blockjob.ErrInvalid)
	}
	noGoroutines(t)
}

// serve listens until the end of the test, and treats each client so, one after the other.
func serve(t testing.TB, network, address string, client func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	ok(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			client(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener
}

func TestB56NotAQMPSocket(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "ssh")
	serve(t, "unix", path, func(conn net.Conn) {
		io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n")
		io.Copy(io.Discard, conn)
	})
	_, err := blockjob.Dial(patience(t), path)
	fails(t, err, blockjob.ErrProtocol)
}

func TestHangUpInsteadOfAGreeting(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "hang-up")
	serve(t, "unix", path, func(net.Conn) {})
	_, err := blockjob.Dial(patience(t), path)
	fails(t, err, blockjob.ErrDisconnected)
}

func TestB47NoGreeting(t *testing.T) {
	path := filepath.Join(qemu.TempDir(t), "silent")
	serve(t, "unix", path, func(conn net.Conn) { io.Copy(io.Discard, conn) })

	_, err := blockjob.Dial(briefly(t), path)
	e := fails(t, err, blockjob.ErrTimeout, path, "greeting")
	if !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() {
		t.Errorf("%v is not a deadline", err)
	}

	// A context without a deadline has the limit.
	_, err = blockjob.Dial(context.Background(), path, blockjob.WithLimit(blockjob.LimitConnectMS, 20))
	fails(t, err, blockjob.ErrTimeout, "greeting")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("no context had a deadline")
	}
}

func TestB47MonitorHeldByAnotherClient(t *testing.T) {
	q := qemu.Daemon(t)
	holder := dial(t, q.URI)

	_, err := blockjob.Dial(briefly(t), q.URI)
	fails(t, err, blockjob.ErrTimeout, q.Path, "client")

	// Who comes while it is held is served once it is not.
	type dialled struct {
		monitor *blockjob.Monitor
		err     error
	}
	next := make(chan dialled, 1)
	go func() {
		m, err := blockjob.Dial(patience(t), q.URI)
		next <- dialled{m, err}
	}()
	holder.Close()
	d := <-next
	ok(t, d.err)
	d.monitor.Close()
}

func TestDialCancelled(t *testing.T) {
	q := qemu.Daemon(t)
	holder := dial(t, q.URI)

	ctx, cancel := context.WithCancel(context.Background())
	result := start(func() (blockjob.Outcome, error) {
		_, err := blockjob.Dial(ctx, q.URI)
		return blockjob.NoOutcome, err
	})
	cancel()
	err := (<-result).err
	fails(t, err, blockjob.ErrCancelled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not a cancellation", err)
	}
	_, err = blockjob.Dial(ctx, q.URI)
	fails(t, err, blockjob.ErrCancelled)

	// It has given up its place in the line.
	holder.Close()
	dial(t, q.URI)
}

func TestExecute(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)

	type node struct {
		Name string `json:"node-name"`
	}
	var nodes []node
	ok(t, m.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes))
	names := map[string]bool{}
	for _, n := range nodes {
		names[n.Name] = true
	}
	if !names["drive"] || !names["copy"] {
		t.Errorf("nodes %v", nodes)
	}

	// The reply as it is; and a reply that doesn't fit.
	var raw json.RawMessage
	ok(t, m.Execute(ctx, "query-jobs", json.RawMessage(` {} `), &raw))
	if string(raw) != "[]" {
		t.Errorf("query-jobs: %s", raw)
	}
	var number int
	fails(t, m.Execute(ctx, "query-jobs", nil, &number), blockjob.ErrInvalid, "query-jobs")

	// A refusal has QEMU's class and words.
	err := m.Execute(ctx, "query-nothing", nil, nil)
	if e := fails(t, err, blockjob.ErrRefused, "query-nothing"); e.Class != "CommandNotFound" {
		t.Errorf("class %q", e.Class)
	}
	err = m.Execute(ctx, "blockdev-del", map[string]any{"node-name": "nobody"}, nil)
	if e := fails(t, err, blockjob.ErrRefused, "nobody"); e.Class != "GenericError" {
		t.Errorf("class %q", e.Class)
	}
}

func TestMalformedArguments(t *testing.T) {
	q := qemu.Daemon(t)
	m := dial(t, q.URI)
	ctx := patience(t)

	var none map[string]any
	ok(t, m.Execute(ctx, "query-jobs", none, nil))

	for _, arguments := range []any{
		json.RawMessage(`{"a":`), json.RawMessage(`{} {}`), json.RawMessage("{\"a\": \x00}"), json.RawMessage(``),
		[]int{1}, 1, "text", func() {}, map[string]any{"a": math.Inf(1)},
	} {
		fails(t, m.Execute(ctx, "query-jobs", arguments, nil), blockjob.ErrInvalid)
		_, err := m.Start(ctx, "block-stream", arguments)
		fails(t, err, blockjob.ErrInvalid)
	}
	fails(t, m.Execute(ctx, "", nil, nil), blockjob.ErrInvalid)
	fails(t, m.Execute(ctx, "query\x00jobs", nil, nil), blockjob.ErrInvalid)
	_, err := m.HasCommand("query\x00jobs")
	fails(t, err, blockjob.ErrInvalid)
	_, err = m.Mirror(ctx, "a\x00b", blockjob.MirrorOptions{})
	fails(t, err, blockjob.ErrInvalid)
	_, err = m.Attach(ctx, "a\x00b")
	fails(t, err, blockjob.ErrInvalid)
	_, err = m.Commit(ctx, "drive", blockjob.CommitOptions{Extra: map[string]any{"x": func() {}}})
	fails(t, err, blockjob.ErrInvalid)

	// None of it did any harm.
	ok(t, m.Execute(ctx, "query-jobs", nil, nil))
}

func TestB55LargeIntegers(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)

	fake.Do("answer", fakeqemu.Fields{"command": "query-test", "count": 2, "return": map[string]any{
		"beyond": json.RawMessage("18446744073709551616"), "exact": int64(math.MaxInt64),
	}})
	var fields struct {
		Beyond json.Number
		Exact  int64
	}
	ok(t, m.Execute(ctx, "query-test", nil, &fields))
	if fields.Beyond != "18446744073709551616" || fields.Exact != math.MaxInt64 {
		t.Errorf("got %+v", fields)
	}
	var anything any
	ok(t, m.Execute(ctx, "query-test", map[string]any{"exact": uint64(math.MaxUint64)}, &anything))
	if got := anything.(map[string]any)["exact"]; got != json.Number("9223372036854775807") {
		t.Errorf("got %v", got)
	}

	for _, entry := range fake.Do("log", nil)["log"].([]any) {
		fields := entry.(map[string]any)
		if message, _ := fields["message"].(map[string]any); message["arguments"] != nil {
			if sent := fmt.Sprintf("%.0f", message["arguments"].(map[string]any)["exact"]); sent != "18446744073709551616" {
				t.Errorf("sent %v", sent) // as the nearest float64 of this test's own decoder
			}
		}
	}
}

func TestB54LongReplyArrivesWhole(t *testing.T) {
	m := dial(t, qemu.Daemon(t).URI)

	var schema []json.RawMessage
	ok(t, m.Execute(patience(t), "query-qmp-schema", nil, &schema))
	if len(schema) < 100 {
		t.Errorf("%d entries", len(schema))
	}
}

func TestB54LimitOfAMessage(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitMessageBytes, 1<<20))

	fake.Do("huge", fakeqemu.Fields{"bytes": 1 << 21})
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrProtocol)

	// The limit was that monitor's alone.
	m = dial(t, fake.URI)
	events, err := m.Events(patience(t))
	ok(t, err)
	fake.Do("huge", fakeqemu.Fields{"bytes": 1 << 21})
	if e := <-events; len(e.Data) < 1<<21 {
		t.Errorf("%d bytes", len(e.Data))
	}

	_, err = blockjob.Dial(patience(t), fake.URI, blockjob.WithLimit(blockjob.LimitJobs, 0))
	fails(t, err, blockjob.ErrInvalid)
	_, err = blockjob.Dial(patience(t), fake.URI, blockjob.WithLimit(-1, 1))
	fails(t, err, blockjob.ErrInvalid)
}

func TestB48SilentQEMUMeetsTheDeadline(t *testing.T) {
	q := qemu.Daemon(t)
	m := dial(t, q.URI)

	q.Stop()
	err := m.Execute(briefly(t), "query-jobs", nil, nil)
	fails(t, err, blockjob.ErrTimeout, "query-jobs")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not a deadline", err)
	}

	// The late reply is nobody's.
	q.GoOn()
	var version struct{ QEMU any }
	ok(t, m.Execute(patience(t), "query-version", nil, &version))
	if version.QEMU == nil {
		t.Error("the reply of another command")
	}
}

func TestCommandWithoutDeadlineHasTheLimits(t *testing.T) {
	q := qemu.Daemon(t)
	m := dial(t, q.URI, blockjob.WithLimit(blockjob.LimitCommandMS, 20))

	q.Stop()
	err := m.Execute(context.Background(), "query-jobs", nil, nil)
	fails(t, err, blockjob.ErrTimeout)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("no context had a deadline")
	}
}

func TestEndedContextSendsNothing(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	fake.Do("ready", nil)
	ok(t, job.WaitReady(patience(t)))

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	fails(t, m.Execute(ended, "query-test", nil, nil), blockjob.ErrCancelled)
	_, err = m.Mirror(ended, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	fails(t, err, blockjob.ErrCancelled)
	_, err = m.Jobs(ended)
	fails(t, err, blockjob.ErrCancelled)
	_, err = job.Pivot(ended)
	fails(t, err, blockjob.ErrCancelled)
	_, err = job.Abort(ended)
	fails(t, err, blockjob.ErrCancelled)
	fails(t, job.Pause(ended), blockjob.ErrCancelled)
	_, err = job.Finalize(ended)
	fails(t, err, blockjob.ErrCancelled)
	_, err = job.Query(ended)
	fails(t, err, blockjob.ErrCancelled)

	ok(t, m.Execute(patience(t), "query-jobs", nil, nil))
	for _, command := range []string{"query-test", "job-complete", "block-job-complete", "job-cancel", "block-job-cancel", "job-pause", "block-job-pause"} {
		if n := fake.Sent(command); n != 0 {
			t.Errorf("%s was sent %d times", command, n)
		}
	}
	if n := fake.Sent("blockdev-mirror"); n != 1 {
		t.Errorf("blockdev-mirror was sent %d times", n)
	}
}

func TestClosedMonitor(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	ok(t, m.Close())
	ok(t, m.Close())
	if !isClosed(m.Done()) {
		t.Error("not done")
	}
	fails(t, m.Err(), blockjob.ErrClosed)
	if m.URI() != q.URI || m.QEMUVersion() == "" {
		t.Error("forgot what it knew")
	}

	fails(t, m.Execute(ctx, "query-jobs", nil, nil), blockjob.ErrClosed)
	_, err := m.HasCommand("query-jobs")
	fails(t, err, blockjob.ErrClosed)
	_, err = m.Mirror(ctx, "drive", halted)
	fails(t, err, blockjob.ErrClosed)
	_, err = m.Attach(ctx, job.ID())
	fails(t, err, blockjob.ErrClosed)
	_, err = m.Jobs(ctx)
	fails(t, err, blockjob.ErrClosed)
	_, err = m.Events(ctx)
	fails(t, err, blockjob.ErrClosed)

	// The job's handle can still be asked, and nothing hangs.
	if job.ID() == "" || job.Type() != "mirror" || job.IsReady() {
		t.Errorf("job %q of type %q", job.ID(), job.Type())
	}
	_, err = job.Pivot(ctx)
	fails(t, err, blockjob.ErrClosed)
	_, err = job.Abort(ctx)
	fails(t, err, blockjob.ErrClosed)
	fails(t, job.WaitReady(ctx), blockjob.ErrClosed)
	_, err = job.Wait(ctx)
	fails(t, err, blockjob.ErrClosed)
	fails(t, job.Resume(ctx), blockjob.ErrClosed)
	_, err = job.Query(ctx)
	fails(t, err, blockjob.ErrClosed)
	_, err = job.Watch(ctx, 0)
	fails(t, err, blockjob.ErrClosed)
	for range job.Progress(ctx, 0) {
		t.Error("progress")
	}
	<-job.Done()
	if isClosed(job.Ready()) {
		t.Error("ready")
	}

	// The job goes on.
	if status := q.Jobs()[job.ID()]; status != "running" {
		t.Errorf("status %q", status)
	}
}
