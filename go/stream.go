// SPDX-License-Identifier: MIT
// From a watch of the library to a channel, past a receiver that may be slow.

package blockjob

import (
	"context"
	"sync"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A notice is a record, copied.
type notice struct {
	before, after *notice // in the stream
	line          *line   // that it belongs to
	number        uint64  // counts the records of the watch, those that were dropped included

	kind           int
	code           int
	cause          int
	outcome        Outcome
	current, total int64
	time           time.Time
	name, text     string
	job            core.Job // a reference, of all jobs; else nil
	started        bool
	resumed        bool
	inferred       bool
	dropped        uint64 // records lost just before this one; set when it is taken
	droppedEnds    uint64 // how many of them were ends
}

func (n *notice) size() uint64 {
	return uint64(len(n.name) + len(n.text))
}

func (n *notice) err() error {
	return &Error{Code: Code(n.code), Outcome: n.outcome, Text: n.text, lostBy: Code(n.cause)}
}

// free is for a notice that nobody will read.
func (n *notice) free() {
	if n.job != nil {
		core.JobUnref(n.job)
	}
}

// A line is those of a stream's notices that are dropped, the oldest first, when there are too many of them.
type line struct {
	from  *notice // before it there is none of them; nil: look from the first notice on
	count uint64
	bytes uint64
}

// A stream keeps the records of one watch until the receiver takes them. The reader of the queue must
// not wait for a slow receiver: the oldest beyond the limits are dropped, in constant time, and the
// receiver learns how many from the numbers (B61). Of one job, or of QEMU's events, the latest of each kind
// that says where the job or the connection stands is never dropped, and not counted. Of all jobs, so many READY and
// ENDED are kept that only a receiver who is thousands of jobs behind loses one.
type stream struct {
	keep      func(kind int) bool // which records the receiver wants
	ofJobs    bool                // of all jobs
	limit     uint64              // of notices
	keptLimit uint64              // of READY and ENDED, of all jobs
	byteLimit uint64              // of their texts
	wake      chan struct{}       // room for one

	mu       sync.Mutex
	first    *notice // a list: what was taken is not referred to any more
	last     *notice
	ring     line            // those that may be dropped
	kept     line            // the others
	latest   map[int]*notice // of the kept ones, by kind
	lostEnds uint64          // since the last notice
	taken    uint64          // the number of the notice that was taken last
	ended    bool
	closed   bool // nobody receives any more
}

// newStream makes one for so many notices; 0 stands for the monitor's limit.
func newStream(limit uint64, keep func(kind int) bool) *stream {
	return &stream{keep: keep, limit: limit, wake: make(chan struct{}, 1), latest: make(map[int]*notice)}
}

func (s *stream) receive(record core.Record) bool {
	kind := record.Kind()

	s.mu.Lock()
	switch {
	case s.closed:
	case kind == core.RecordClosed:
		s.ended = true
	case kind == core.RecordLagged:
		s.lostEnds += record.LostEnds()
	case s.keep(kind):
		s.push(copyOf(record))
	}
	s.mu.Unlock()

	select {
	case s.wake <- struct{}{}:
	default:
	}
	return kind != core.RecordClosed
}

func copyOf(record core.Record) *notice {
	n := &notice{
		number:  record.Sequence(),
		kind:    record.Kind(),
		code:    record.Error(),
		cause:   record.Cause(),
		outcome: Outcome(record.Outcome()),
		current: record.Current(),
		total:   record.Total(),
		time:    fromMicroseconds(record.TimestampUS()),
		name:    record.Name(),
		text:    record.Text(),
		started: record.Started(),

		resumed:  record.Resumed(),
		inferred: record.Inferred(),
	}
	if job := record.Job(); job != nil {
		n.job = core.JobRef(job)
	}
	return n
}

func (s *stream) push(n *notice) {
	n.droppedEnds = s.lostEnds
	s.lostEnds = 0
	if n.before = s.last; n.before != nil {
		n.before.after = n
	} else {
		s.first = n
	}
	s.last = n

	s.enter(n, s.lineOf(n))
	for s.ring.count > s.limit || s.ring.bytes+s.kept.bytes > s.byteLimit && s.ring.count > 1 {
		s.drop(&s.ring)
	}
	for s.ofJobs && s.kept.count > 1 && (s.kept.count > s.keptLimit || s.kept.bytes > s.byteLimit) {
		s.drop(&s.kept)
	}
}

// lineOf is the line for a new notice. One that was the latest of its kind until now may be dropped.
func (s *stream) lineOf(n *notice) *line {
	if s.ofJobs {
		if n.kind == core.RecordReady || n.kind == core.RecordEnded {
			return &s.kept
		}
		return &s.ring
	}
	if !matters(n.kind) {
		return &s.ring
	}
	if before := s.latest[n.kind]; before != nil {
		s.leave(before)
		s.enter(before, &s.ring)
	}
	s.latest[n.kind] = n
	return &s.kept
}

func (s *stream) enter(n *notice, l *line) {
	n.line = l
	l.count++
	l.bytes += n.size()
	if l.from != nil && n.number < l.from.number {
		l.from = n
	}
}

func (s *stream) leave(n *notice) {
	n.line.count--
	n.line.bytes -= n.size()
	if s.latest[n.kind] == n {
		delete(s.latest, n.kind)
	}
}

// drop looks at each notice once, but for those few that are the latest of their kind.
func (s *stream) drop(l *line) {
	n := l.from
	if n == nil {
		n = s.first
	}
	for n.line != l {
		n = n.after
	}
	l.from = n

	ends := n.droppedEnds
	if n.kind == core.RecordEnded {
		ends++
	}
	if n.after != nil {
		n.after.droppedEnds += ends
	} else {
		s.lostEnds += ends
	}
	s.remove(n)
	n.free()
}

func (s *stream) remove(n *notice) {
	if n.before != nil {
		n.before.after = n.after
	} else {
		s.first = n.after
	}
	if n.after != nil {
		n.after.before = n.before
	} else {
		s.last = n.before
	}
	for _, l := range []*line{&s.ring, &s.kept} {
		if l.from == n {
			l.from = n.after
		}
	}
	s.leave(n)
	n.before, n.after = nil, nil
}

func (s *stream) take() *notice {
	n := s.first
	if n == nil {
		return nil
	}
	s.remove(n)
	n.dropped = n.number - s.taken - 1
	s.taken = n.number
	return n
}

// close forgets what was not taken.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.closed = true
	for n := s.take(); n != nil; n = s.take() {
		n.free()
	}
}

func matters(kind int) bool {
	switch kind {
	case core.RecordReady, core.RecordStalled, core.RecordEnded,
		core.RecordDisconnected, core.RecordReconnected:
		return true
	}
	return false
}

// next waits for the next notice; nil if there is none any more, or one of the channels is closed.
func (s *stream) next(done, closing <-chan struct{}) *notice {
	for {
		s.mu.Lock()
		n, ended := s.take(), s.ended
		s.mu.Unlock()

		if n != nil || ended {
			return n
		}
		select {
		case <-s.wake:
		case <-done:
			return nil
		case <-closing:
			return nil
		}
	}
}

// open has the records of a watch brought to a stream, and from there to a channel, which is closed
// when the watch has ended, the context is done or the monitor is closed.
func open[T any](ctx context.Context, m *Monitor, s *stream, watch func(core.Monitor, *core.Watch) int,
	convert func(*notice) T) (<-chan T, error) {
	if ctx == nil {
		return nil, noContext("watching")
	}
	var handle core.Watch
	var token uint64

	err := m.use(func(monitor core.Monitor) (err error) {
		if err = check("watching", watch(monitor, &handle)); err == nil {
			token, err = m.connect(s, handle)
		}
		return err
	})
	if err != nil {
		core.WatchUnref(handle)
		return nil, err
	}

	out := make(chan T)
	go func() {
		defer m.streams.Done()
		defer close(out)
		defer core.WatchUnref(handle)

		forward(ctx.Done(), m.closing, s, out, convert)
		core.WatchClose(handle)
		m.hub.forget(token)
		s.close()
	}()
	return out, nil
}

// forward hands on what comes until the stream ends or one of the channels is closed.
func forward[T any](done, closing <-chan struct{}, s *stream, out chan<- T, convert func(*notice) T) {
	for n := s.next(done, closing); n != nil; n = s.next(done, closing) {
		select {
		case out <- convert(n):
		case <-done:
			return
		case <-closing:
			return
		}
	}
}

// connect has the records of a watch delivered to a stream, which Close then waits for.
func (m *Monitor) connect(s *stream, watch core.Watch) (token uint64, err error) {
	if s.limit == 0 {
		s.limit = m.hub.ring
	}
	s.keptLimit = 2 * m.hub.jobs
	s.byteLimit = m.hub.bytes

	token, ok := m.hub.deliver(s, func(queue core.Queue, token uint64) int {
		return core.WatchDeliver(watch, queue, token)
	})
	if !ok {
		return 0, errClosed()
	}
	m.streams.Add(1)
	return token, nil
}

func fromMicroseconds(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
