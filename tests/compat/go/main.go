// The Go clients against a broker: `LIBRARY run BOOTSTRAP PREFIX`, LIBRARY being franz or sarama, and
// `eos MODE ...`, franz-go's part of `cargo xtask eos`.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) == 10 && os.Args[1] == "eos" {
		if err := runEos(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitCode(err))
		}
		return
	}
	if len(os.Args) != 5 || os.Args[2] != "run" {
		fmt.Fprintln(os.Stderr, "usage: franz|sarama run BOOTSTRAP PREFIX")
		os.Exit(2)
	}
	open := map[string]func(string) (adapter, error){"franz": newFranz, "sarama": newSarama}[os.Args[1]]
	client, err := open(os.Args[3])
	if err != nil {
		line("connect", false, err.Error())
		os.Exit(1)
	}
	(&scenario{client, os.Args[4], os.Getenv("COMPAT_AUTO_CREATE") == "1"}).run()
}
