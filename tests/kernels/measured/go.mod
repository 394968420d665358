module measured

go 1.21
