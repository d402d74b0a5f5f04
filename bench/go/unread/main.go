// SPDX-License-Identifier: MIT

// Unread measures what a stream of events that nobody reads costs the commands of its process, by the size of its
// ring: a QEMU that does nothing but send events and answer, served by this process itself, is asked as often
// as it answers. See bench/README.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

const (
	greeting = `{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}` + "\r\n"
	event    = `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "TICK", "data": {"number": 12345}}` + "\r\n"
	burst    = 200 // events before each answer
	length   = 3 * time.Second
)

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "blockjob-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, "qmp"))
	if err != nil {
		log.Fatal(err)
	}
	go serve(listener)

	fmt.Println("ring     answers per second")
	for _, ring := range []uint64{256, 32768, 256, 32768} {
		answers, err := measure("unix:"+listener.Addr().String(), ring)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%-8d %.0f\n", ring, answers)
	}
}

// measure fills the ring of a stream, and then counts answers.
func measure(uri string, ring uint64) (perSecond float64, err error) {
	ctx := context.Background()
	monitor, err := blockjob.Dial(ctx, uri, blockjob.WithLimit(blockjob.LimitWatchRing, ring))
	if err != nil {
		return 0, err
	}
	defer monitor.Close()
	if _, err := monitor.Events(ctx); err != nil {
		return 0, err
	}

	ask := func() {
		if e := monitor.Execute(ctx, "query-jobs", nil, nil); e != nil {
			err = e
		}
	}
	for i := uint64(0); i < 2*ring/burst; i++ {
		ask()
	}
	answers, begin := 0, time.Now()
	for ; time.Since(begin) < length; answers++ {
		ask()
	}
	return float64(answers) / time.Since(begin).Seconds(), err
}

func serve(listener net.Listener) {
	events := bytes.Repeat([]byte(event), burst)
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		connection.Write([]byte(greeting))
		lines := bufio.NewScanner(connection)
		for lines.Scan() {
			var command struct {
				Execute string
				ID      json.RawMessage
			}
			if json.Unmarshal(lines.Bytes(), &command) != nil {
				break
			}
			result := "[]"
			switch command.Execute {
			case "qmp_capabilities":
				result = "{}"
			case "query-commands":
				result = `[{"name": "query-jobs"}]`
			case "query-jobs":
				connection.Write(events)
			}
			fmt.Fprintf(connection, "{\"return\": %s, \"id\": %s}\r\n", result, command.ID)
		}
		connection.Close()
	}
}
