// SPDX-License-Identifier: MIT

package fakeqemu_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/libblockjob/libblockjob/go/fakeqemu"
)

// A client starts a job, and fakeqemu lets it fail.
func Example() {
	qemu, err := fakeqemu.Start("--profile", "7.2")
	if err != nil {
		log.Fatal(err)
	}
	defer qemu.Close()

	// The program under test.
	client, err := net.Dial("unix", qemu.Path())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	lines := bufio.NewScanner(client)
	lines.Scan() // the greeting
	fmt.Fprintln(client, `{"execute": "qmp_capabilities"}`)
	fmt.Fprintln(client, `{"execute": "blockdev-backup", "arguments":
		{"job-id": "b", "device": "disk0", "target": "disk1", "sync": "full"}}`)

	// The test.
	if _, err := qemu.Do("wait", map[string]any{"command": "blockdev-backup"}); err != nil {
		log.Fatal(err)
	}
	answer, err := qemu.Do("execute", map[string]any{"command": "query-jobs"})
	if err != nil {
		log.Fatal(err)
	}
	var jobs struct {
		Return []struct{ ID, Status string }
	}
	if err := json.Unmarshal(answer, &jobs); err != nil {
		log.Fatal(err)
	}
	fmt.Println(jobs.Return)
	if _, err := qemu.Do("fail", map[string]any{"error": "No space left on device"}); err != nil {
		log.Fatal(err)
	}

	// What the program sees of it.
	for lines.Scan() {
		if strings.Contains(lines.Text(), "BLOCK_JOB_COMPLETED") {
			fmt.Println(strings.Contains(lines.Text(), "No space left on device"))
			break
		}
	}
	// Output:
	// [{b running}]
	// true
}
