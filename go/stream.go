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
	kind           int
	code           int
	outcome        Outcome
	current, total int64
	time           time.Time
	name, text     string
	dropped        uint64 // records lost just before this one
}

// A stream keeps the records of one watch until the receiver takes them. The reader of the queue must
// not wait for a slow receiver, so what is beyond the limit is dropped, the oldest first, and counted
// (B61); what says where a job or the connection stands, only if there is nothing else to drop.
type stream struct {
	keep  func(kind int) bool // which records the receiver wants
	limit int
	wake  chan struct{} // room for one

	mu      sync.Mutex
	notices []notice
	dropped uint64 // before the next notice to come
	ended   bool
}

func newStream(limit int, keep func(kind int) bool) *stream {
	return &stream{keep: keep, limit: limit, wake: make(chan struct{}, 1)}
}

func (s *stream) receive(record core.Record) bool {
	kind := record.Kind()

	s.mu.Lock()
	switch {
	case kind == core.RecordClosed:
		s.ended = true
	case kind == core.RecordLagged:
		s.dropped += record.Lost()
	case s.keep(kind):
		s.push(notice{
			kind:    kind,
			code:    record.Error(),
			outcome: Outcome(record.Outcome()),
			current: record.Current(),
			total:   record.Total(),
			time:    fromMicroseconds(record.TimestampUS()),
			name:    record.Name(),
			text:    record.Text(),
		})
	}
	s.mu.Unlock()

	select {
	case s.wake <- struct{}{}:
	default:
	}
	return kind != core.RecordClosed
}

func (s *stream) push(n notice) {
	if len(s.notices) == s.limit {
		s.drop()
	}
	n.dropped = s.dropped
	s.dropped = 0
	s.notices = append(s.notices, n)
}

func (s *stream) drop() {
	victim := 0
	for i, n := range s.notices {
		if !matters(n.kind) {
			victim = i
			break
		}
	}

	lost := s.notices[victim].dropped + 1
	s.notices = append(s.notices[:victim], s.notices[victim+1:]...)
	if victim < len(s.notices) {
		s.notices[victim].dropped += lost
	} else {
		s.dropped += lost
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

// next waits for the next notice; false if there is none any more, or one of the channels is closed.
func (s *stream) next(done, closing <-chan struct{}) (notice, bool) {
	for {
		s.mu.Lock()
		if len(s.notices) > 0 {
			n := s.notices[0]
			s.notices = s.notices[1:]
			s.mu.Unlock()
			return n, true
		}
		ended := s.ended
		s.mu.Unlock()

		if ended {
			return notice{}, false
		}
		select {
		case <-s.wake:
		case <-done:
			return notice{}, false
		case <-closing:
			return notice{}, false
		}
	}
}

// open has the records of a watch brought to a stream, and from there to a channel, which is closed
// when the watch has ended, the context is done or the monitor is closed.
func open[T any](ctx context.Context, m *Monitor, s *stream, watch func(*core.Watch) int,
	convert func(notice) T) (<-chan T, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()

	if m.handle == nil {
		return nil, errClosed
	}
	var handle core.Watch
	if err := check("watching", watch(&handle)); err != nil {
		return nil, err
	}
	token, ok := m.hub.deliver(s, func(queue core.Queue, token uint64) int {
		return core.WatchDeliver(handle, queue, token)
	})
	if !ok {
		core.WatchUnref(handle)
		return nil, errClosed
	}

	out := make(chan T)
	m.streams.Add(1)
	go func() {
		defer m.streams.Done()
		defer close(out)
		defer core.WatchUnref(handle)

		for {
			n, ok := s.next(ctx.Done(), m.closing)
			if !ok {
				break
			}
			select {
			case out <- convert(n):
				continue
			case <-ctx.Done():
			case <-m.closing:
			}
			break
		}
		core.WatchClose(handle)
		m.hub.forget(token)
	}()
	return out, nil
}

func fromMicroseconds(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
