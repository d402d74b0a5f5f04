// SPDX-License-Identifier: MIT
// Transcripts of real QEMUs, from RHEL 6 on, played at the Go module; see tests/traces/README.md.

package blockjob_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
)

// A tracePlayer does what tests/traces/pipe.py says, line by line, and compares what is true then.
type tracePlayer struct {
	t       *testing.T
	ctx     context.Context
	name    string
	acks    io.Writer
	monitor *blockjob.Monitor
	events  chan int
	jobs    map[string]*blockjob.Job
	calls   map[string]*traceCall
}

// A traceCall is under way; of a start it brings the job of a run.
type traceCall struct {
	done chan struct{}
	run  string
	job  *blockjob.Job
	err  error
}

func (p *tracePlayer) fatal(what ...any) {
	p.t.Helper()
	p.t.Fatal(append([]any{p.name + ":"}, what...)...)
}

func (p *tracePlayer) call(number, run string, ask func() (*blockjob.Job, error)) {
	c := &traceCall{done: make(chan struct{}), run: run}
	p.calls[number] = c
	go func() {
		defer close(c.done)
		c.job, c.err = ask()
	}()
}

func (p *tracePlayer) connect(uri string) {
	p.monitor = dial(p.t, uri, blockjob.WithLimit(blockjob.LimitPollMS, 5))
	events, err := p.monitor.Events(p.ctx)
	if err != nil {
		p.fatal(err)
	}
	p.events = make(chan int, 1)
	go func(total chan<- int) {
		count := 0
		for range events {
			count++
		}
		total <- count
	}(p.events)
}

func (p *tracePlayer) attach(run, id string) {
	job, err := p.monitor.Attach(p.ctx, id)
	if err != nil {
		p.fatal("attach", id, err)
	}
	p.jobs[run] = job
}

func (p *tracePlayer) start(run, number, command, arguments string) {
	monitor := p.monitor
	p.call(number, run, func() (*blockjob.Job, error) {
		return monitor.Start(p.ctx, command, json.RawMessage(arguments))
	})
}

func (p *tracePlayer) execute(number, command, arguments string) {
	monitor := p.monitor
	var given any
	if arguments != "" {
		given = json.RawMessage(arguments)
	}
	p.call(number, "", func() (*blockjob.Job, error) {
		return nil, monitor.Execute(p.ctx, command, given, nil)
	})
}

func (p *tracePlayer) verb(run, number, verb, speed string) {
	job := p.jobs[run]
	limit, err := strconv.ParseInt(speed, 10, 64)
	if err != nil {
		p.fatal(err)
	}
	p.call(number, "", func() (*blockjob.Job, error) { return nil, giveVerb(p.ctx, job, verb, limit) })
}

func giveVerb(ctx context.Context, job *blockjob.Job, verb string, speed int64) error {
	var err error
	switch verb {
	case "complete":
		_, err = job.Pivot(ctx, blockjob.OnlyIfReady())
	case "cancel":
		_, err = job.Abort(ctx, blockjob.Async())
	case "force":
		_, err = job.Abort(ctx, blockjob.Force(), blockjob.Async())
	case "pause":
		err = job.Pause(ctx)
	case "resume":
		err = job.Resume(ctx)
	case "set-speed":
		err = job.SetSpeed(ctx, speed)
	case "finalize":
		_, err = job.Finalize(ctx)
	case "dismiss":
		err = job.Dismiss(ctx)
	default:
		err = fmt.Errorf("unknown verb %s", verb)
	}
	return err
}

// isRefusal is also true of what the library knows better than QEMU's refusal (B39).
func isRefusal(err error) bool {
	for _, refusal := range []error{blockjob.ErrRefused, blockjob.ErrState, blockjob.ErrStalled, blockjob.ErrUnsupported} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func (p *tracePlayer) replied(number, how string) {
	c := p.calls[number]
	if c == nil {
		return // what the library has sent on its own
	}
	delete(p.calls, number)
	<-c.done
	accepted := how == "accepted"
	if accepted && c.err != nil || c.err != nil && !isRefusal(c.err) {
		p.fatal(how, c.err)
	}
	if accepted && c.run != "" {
		p.jobs[c.run] = c.job
	}
}

func (p *tracePlayer) ready(run string) {
	err := p.jobs[run].WaitReady(p.ctx)
	for errors.Is(err, blockjob.ErrStalled) { // until the events on their way have come
		err = p.jobs[run].WaitReady(p.ctx)
	}
	if err != nil {
		p.fatal("ready", err)
	}
}

func (p *tracePlayer) over(run, outcomes, text string) {
	job := p.jobs[run]
	select {
	case <-job.Done():
	case <-p.ctx.Done():
		p.fatal("a job does not end")
	}
	outcome := job.Outcome().String()
	if !strings.Contains(","+outcomes+",", ","+outcome+",") {
		p.fatal(job.ID(), "is", outcomes, "and told to be", outcome, job.Err())
	}
	var told *blockjob.Error
	if text != "" && (!errors.As(job.Err(), &told) || told.Text != text) {
		p.fatal(job.ID(), "failed by", text, "and is told as", job.Err())
	}
}

func (p *tracePlayer) gone(least, most string) {
	<-p.monitor.Done()
	if err := p.monitor.Err(); !errors.Is(err, blockjob.ErrDisconnected) {
		p.fatal("the connection is over by", err)
	}
	for number, c := range p.calls {
		<-c.done
		delete(p.calls, number)
	}
	count := <-p.events
	from, _ := strconv.Atoi(least)
	to, _ := strconv.Atoi(most)
	if count < from || count > to {
		p.fatal(count, "events came, not", least, "to", most)
	}
}

// line does one line and says whether it was the last.
func (p *tracePlayer) line(line string) bool {
	words := strings.Split(line, "\t")
	acknowledged := true
	switch words[0] {
	case "play":
		p.name = words[1]
		p.jobs = map[string]*blockjob.Job{}
		acknowledged = false
	case "connect":
		p.connect(words[1])
	case "attach":
		p.attach(words[1], words[2])
	case "start":
		p.start(words[1], words[2], words[3], words[4])
		acknowledged = false
	case "verb":
		p.verb(words[1], words[2], words[3], words[4])
		acknowledged = false
	case "execute":
		p.execute(words[1], words[2], words[3])
		acknowledged = false
	case "replied":
		p.replied(words[1], words[2])
	case "ready":
		p.ready(words[1])
	case "over":
		p.over(words[1], words[2], words[3])
	case "gone":
		p.gone(words[1], words[2])
	case "end":
		return true
	default:
		p.fatal("unknown:", line)
	}
	if acknowledged {
		fmt.Fprintln(p.acks, "ok")
	}
	return false
}

func TestB59TranscriptsAreToldAsTheyWere(t *testing.T) {
	traces, err := filepath.Abs("../traces")
	if err != nil {
		t.Fatal(err)
	}
	some, err := os.ReadFile(filepath.Join(traces, "some"))
	if err != nil {
		t.Fatal(err)
	}
	arguments := append([]string{filepath.Join(traces, "pipe.py")}, strings.Fields(string(some))...)
	process := exec.Command("python3", arguments...)
	process.Stderr = os.Stderr
	acks, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})

	p := &tracePlayer{t: t, ctx: patience(t), acks: acks, calls: map[string]*traceCall{}}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		if p.line(scanner.Text()) {
			return
		}
	}
	p.fatal("not played to its end", scanner.Err())
}
