// Says what Istio says of objects: what its webhook's functions and its CustomResourceDefinitions refuse. It is built inside a
// checkout of istio/istio (see build), whose packages have no other home.
//
// A line of JSON in, {"id", "object"}; a line out, {"id", "refused", "warning"}, empty where there is nothing to say.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	crdvalidation "istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
)

type question struct {
	ID     string          `json:"id"`
	Object json.RawMessage `json:"object"`
}

type answer struct {
	ID      string `json:"id"`
	Refused string `json:"refused"`
	Warning string `json:"warning"`
}

// byWebhook gives what istiod's admission webhook refuses and warns of.
func byWebhook(object []byte) (refused, warning error) {
	var kind crd.IstioKind
	if err := yaml.UnmarshalStrict(object, &kind); err != nil {
		return err, nil
	}
	gvk := kind.GroupVersionKind()
	schema, exists := collections.All.FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&gvk))
	if !exists {
		return fmt.Errorf("unknown kind %v", gvk), nil
	}
	config, err := crd.ConvertObject(schema, &kind, "cluster.local")
	if err != nil {
		return err, nil
	}
	warning, refused = schema.ValidateConfig(*config)
	return refused, warning
}

// byDefinition gives what an API server refuses by the definition's schema.
func byDefinition(validator *crdvalidation.Validator, object []byte) error {
	held := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(object, held); err != nil {
		return err
	}
	return validator.ValidateCustomResource(held)
}

func judge(validator *crdvalidation.Validator, asked question) answer {
	refused, warning := byWebhook(asked.Object)
	var all []string
	for _, err := range []error{refused, byDefinition(validator, asked.Object)} {
		if err != nil {
			all = append(all, err.Error())
		}
	}
	said := answer{ID: asked.ID, Refused: strings.Join(all, "; ")}
	if warning != nil {
		said.Warning = warning.Error()
	}
	return said
}

func main() {
	validator, err := crdvalidation.NewValidatorFromFiles(os.Args[1:]...)
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(judge(validator, asked)); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
