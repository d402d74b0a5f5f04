module github.com/libblockjob/libblockjob/go

go 1.19
