module kernel

go 1.18
