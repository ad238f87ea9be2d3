module strongroom.example/log-summary

go 1.24
