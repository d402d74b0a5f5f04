module github.com/libblockjob/libblockjob/bench

go 1.19

require github.com/libblockjob/libblockjob/go v0.0.0

replace github.com/libblockjob/libblockjob/go => ../../go
