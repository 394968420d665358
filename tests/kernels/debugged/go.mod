module debugged

go 1.21
