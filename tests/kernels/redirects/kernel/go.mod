module redirects

go 1.19
