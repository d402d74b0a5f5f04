// SPDX-License-Identifier: MIT

package qemu

import (
	"encoding/json"
	"net"
	"testing"
)

// Args are the arguments of a command.
type Args map[string]any

// An Event is one that a Client has seen.
type Event struct {
	Name string `json:"event"`
	Data struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Device string `json:"device"`
	} `json:"data"`
}

// A Client is a blocking QMP client that owes nothing to the library under test. It belongs to the
// test's goroutine.
type Client struct {
	t       testing.TB
	conn    net.Conn
	decoder *json.Decoder
	events  []Event
	seen    int
}

// A Refusal is the error of a command that QEMU refused.
type Refusal struct {
	Class string `json:"class"`
	Text  string `json:"desc"`
}

func (r *Refusal) Error() string {
	return r.Class + ": " + r.Text
}

// NewClient connects to a QMP socket; the end of the test closes it.
func NewClient(t testing.TB, path string) *Client {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{t: t, conn: conn, decoder: json.NewDecoder(conn)}
	t.Cleanup(c.Close)
	c.read()
	c.Do("qmp_capabilities", nil)
	return c
}

// Close lets another client have the monitor.
func (c *Client) Close() {
	c.conn.Close()
}

type message struct {
	Event
	Return *json.RawMessage `json:"return"`
	Error  *Refusal         `json:"error"`
}

func (c *Client) read() message {
	c.t.Helper()
	var m message
	if err := c.decoder.Decode(&m); err != nil {
		c.t.Fatalf("the other client: %v", err)
	}
	if m.Name != "" {
		c.events = append(c.events, m.Event)
	}
	return m
}

// Try runs a command; the error is a *Refusal.
func (c *Client) Try(command string, arguments Args, reply any) error {
	c.t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(text); err != nil {
		c.t.Fatal(err)
	}

	for {
		m := c.read()
		if m.Error != nil {
			return m.Error
		}
		if m.Return == nil {
			continue
		}
		if reply != nil {
			return json.Unmarshal(*m.Return, reply)
		}
		return nil
	}
}

// Do runs a command that must succeed.
func (c *Client) Do(command string, arguments Args) {
	c.t.Helper()
	if err := c.Try(command, arguments, nil); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
}

// WaitFor waits for the first event that fits and hasn't been waited for.
func (c *Client) WaitFor(fits func(Event) bool) {
	c.t.Helper()
	for {
		for ; c.seen < len(c.events); c.seen++ {
			if fits(c.events[c.seen]) {
				c.seen++
				return
			}
		}
		c.read()
	}
}

// WaitStatus waits until the job has that status.
func (c *Client) WaitStatus(id, status string) {
	c.t.Helper()
	c.WaitFor(func(e Event) bool {
		return e.Name == "JOB_STATUS_CHANGE" && e.Data.ID == id && e.Data.Status == status
	})
}

// Count returns how many events of that name and device or id were seen so far.
func (c *Client) Count(name, id string) int {
	count := 0
	for _, e := range c.events {
		if e.Name == name && (e.Data.ID == id || e.Data.Device == id) {
			count++
		}
	}
	return count
}

// Jobs returns the status of each job that QEMU knows.
func (c *Client) Jobs() map[string]string {
	c.t.Helper()
	var rows []struct{ ID, Status string }
	if err := c.Try("query-jobs", nil, &rows); err != nil {
		c.t.Fatal(err)
	}
	jobs := make(map[string]string)
	for _, row := range rows {
		jobs[row.ID] = row.Status
	}
	return jobs
}
