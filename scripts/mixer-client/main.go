// Calls a Mixer with the messages that Istio 1.4's own Go types make, and prints what it answers as JSON. The attributes come
// from standard input, with Istio's types; words are those of the global dictionary that the module itself has.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gogo/protobuf/jsonpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	mixer "istio.io/api/mixer/v1"
)

type set struct {
	Strings map[string]string            `json:"strings"`
	Ints    map[string]int64             `json:"ints"`
	IPs     map[string]string            `json:"ips"`
	Maps    map[string]map[string]string `json:"maps"`
}

type words struct {
	global map[string]int32
	own    map[string]int32
	list   []string
}

func (w *words) index(word string) int32 {
	if at, ok := w.global[word]; ok {
		return at
	}
	if at, ok := w.own[word]; ok {
		return at
	}
	w.list = append(w.list, word)
	w.own[word] = -int32(len(w.list))
	return w.own[word]
}

func compress(s set, w *words) (mixer.CompressedAttributes, error) {
	out := mixer.CompressedAttributes{
		Strings: map[int32]int32{}, Int64S: map[int32]int64{}, Bytes: map[int32][]byte{},
		StringMaps: map[int32]mixer.StringMap{},
	}
	for name, value := range s.Strings {
		out.Strings[w.index(name)] = w.index(value)
	}
	for name, value := range s.Ints {
		out.Int64S[w.index(name)] = value
	}
	for name, value := range s.IPs {
		ip := net.ParseIP(value)
		if ip == nil {
			return out, fmt.Errorf("%s: %q is no address", name, value)
		}
		// Four bytes for IPv4, as Istio's proxies send it.
		if short := ip.To4(); short != nil {
			ip = short
		}
		out.Bytes[w.index(name)] = ip
	}
	for name, entries := range s.Maps {
		sent := mixer.StringMap{Entries: map[int32]int32{}}
		for key, value := range entries {
			sent.Entries[w.index(key)] = w.index(value)
		}
		out.StringMaps[w.index(name)] = sent
	}
	return out, nil
}

// The dictionary is a list in YAML, one word a line; Istio's generators kept the quotes that some words have there.
func dictionary(path string) (map[string]int32, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, place := map[string]int32{}, int32(0)
	for _, line := range strings.Split(string(text), "\n") {
		if word, ok := strings.CutPrefix(line, "- "); ok {
			found[strings.TrimSpace(word)] = place
			place++
		}
	}
	return found, nil
}

func connect(address, chain, key, roots string) (*grpc.ClientConn, error) {
	own, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(trusted) {
		return nil, errors.New("no roots")
	}
	// The server's certificate has a URI and no name, so its chain alone is verified here.
	verify := func(state tls.ConnectionState) error {
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true, VerifyConnection: verify}
	return grpc.Dial(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

func run() error {
	address := flag.String("address", "", "HOST:PORT of Mixer")
	chain := flag.String("chain", "", "file with the caller's certificate")
	key := flag.String("key", "", "file with its key")
	roots := flag.String("roots", "", "file with the roots")
	global := flag.String("dictionary", "", "file with the global dictionary")
	quota := flag.String("quota", "", "a quota of which one unit is wanted")
	report := flag.Bool("report", false, "report instead of check; each line of the input is a set, as a difference to the one before")
	flag.Parse()
	known, err := dictionary(*global)
	if err != nil {
		return err
	}
	var sets []set
	for input := json.NewDecoder(os.Stdin); input.More(); {
		var one set
		if err := input.Decode(&one); err != nil {
			return err
		}
		sets = append(sets, one)
	}
	connection, err := connect(*address, *chain, *key, *roots)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := mixer.NewMixerClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w := &words{global: known, own: map[string]int32{}}
	var sent []mixer.CompressedAttributes
	for _, one := range sets {
		compressed, err := compress(one, w)
		if err != nil {
			return err
		}
		sent = append(sent, compressed)
	}
	if *report {
		_, err := client.Report(ctx, &mixer.ReportRequest{
			Attributes: sent, DefaultWords: w.list, GlobalWordCount: uint32(len(known)),
		})
		return err
	}
	if len(sent) != 1 {
		return errors.New("a check has one set of attributes")
	}
	request := &mixer.CheckRequest{Attributes: sent[0], GlobalWordCount: uint32(len(known)), DeduplicationId: "once"}
	request.Attributes.Words = w.list
	if *quota != "" {
		request.Quotas = map[string]mixer.CheckRequest_QuotaParams{*quota: {Amount: 1}}
	}
	response, err := client.Check(ctx, request)
	if err != nil {
		return err
	}
	return (&jsonpb.Marshaler{EmitDefaults: true}).Marshal(os.Stdout, response)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
