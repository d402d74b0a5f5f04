// SPDX-License-Identifier: MIT

//go:build libblockjob_system

package core

// #cgo CFLAGS: -DBLOCKJOB_SYSTEM
// #cgo pkg-config: libblockjob
import "C"
