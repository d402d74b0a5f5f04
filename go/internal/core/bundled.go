// SPDX-License-Identifier: MIT

//go:build !libblockjob_system

package core

// Debian's libev has no pkg-config file.

// #cgo CFLAGS: -std=gnu11 -pthread
// #cgo pkg-config: jansson
// #cgo LDFLAGS: -lev -lm -ldl -pthread
import "C"
