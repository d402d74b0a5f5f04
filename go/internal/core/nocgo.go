// SPDX-License-Identifier: MIT

//go:build !cgo

package core

// Go's own words for this error would be of constraints that exclude all Go files.
var _ = libblockjob_is_C__set_CGO_ENABLED_1_and_install_a_C_compiler_libev_and_jansson
