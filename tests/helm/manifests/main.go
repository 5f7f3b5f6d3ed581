// Manifests reads Kubernetes manifests (a stream of YAML documents) and prints what is wrong with them, a line each.
//
// Each document goes through what the API server of this module's Kubernetes version does with it: it is decoded strictly
// (unknown, misspelled and doubled fields and wrong types are told), defaulted, and validated; the warnings about pods that
// kubectl would print count as faults. Each pod is held against the "restricted" pod security standard, by the code
// that admits pods. Only what needs a cluster is left out: whether names are free, and what they refer to.
//
// Exit status: 0 if nothing is wrong, 1 if something is, 2 if the stream can't be read.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
)

// checker holds what the checks of all documents share.
type checker struct {
	typed    runtime.Decoder
	internal runtime.Decoder
	security security.Evaluator
}

func main() {
	codecs := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
	evaluator, err := security.NewEvaluator(security.DefaultChecks(), nil)
	if err != nil {
		fail(err)
	}
	check := checker{codecs.UniversalDeserializer(), codecs.UniversalDecoder(), evaluator}
	faults := 0
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fail(err)
		}
		for _, fault := range check.document(document) {
			fmt.Printf("document %d: %s\n", number, fault)
			faults++
		}
	}
	if faults > 0 {
		os.Exit(1)
	}
}

func (c checker) document(document []byte) []string {
	object, kind, err := c.typed.Decode(document, nil, nil)
	if err != nil {
		return []string{err.Error()}
	}
	faults := c.podSecurity(object)
	internal, err := runtime.Decode(c.internal, document)
	if err != nil {
		return append(faults, err.Error())
	}
	metadata, err := meta.Accessor(internal)
	if err != nil {
		return append(faults, err.Error())
	}
	metadata.SetNamespace(metav1.NamespaceDefault)
	for _, problem := range validate(internal) {
		faults = append(faults, fmt.Sprintf("%s %s: %v", kind.Kind, metadata.GetName(), problem))
	}
	return faults
}

// validate tells what the API server has against an object that is to be created, and what it would warn of.
func validate(object runtime.Object) []error {
	switch object := object.(type) {
	case *apps.Deployment:
		options := pod.GetValidationOptionsFromPodTemplate(&object.Spec.Template, nil)
		return append(warnings(&object.Spec.Template), plain(appsvalidation.ValidateDeployment(object, options))...)
	case *batch.Job:
		// The selector is the API server's to generate.
		object.Spec.ManualSelector = ptr.To(true)
		object.Spec.Selector = &metav1.LabelSelector{MatchLabels: object.Spec.Template.Labels}
		options := batchvalidation.JobValidationOptions{
			PodValidationOptions: pod.GetValidationOptionsFromPodTemplate(&object.Spec.Template, nil),
		}
		return append(warnings(&object.Spec.Template), plain(batchvalidation.ValidateJobCreate(object, options))...)
	case *core.Pod:
		template := core.PodTemplateSpec{ObjectMeta: object.ObjectMeta, Spec: object.Spec}
		options := pod.GetValidationOptionsFromPodTemplate(&template, nil)
		return append(warnings(&template), plain(corevalidation.ValidatePodCreate(object, options))...)
	case *core.Service:
		if object.Spec.ClusterIP == core.ClusterIPNone {
			object.Spec.ClusterIPs = []string{core.ClusterIPNone} // as the API server does before
		}
		return plain(corevalidation.ValidateServiceCreate(object))
	case *core.ServiceAccount:
		return plain(corevalidation.ValidateServiceAccount(object))
	case *core.ConfigMap:
		return plain(corevalidation.ValidateConfigMap(object))
	case *autoscaling.HorizontalPodAutoscaler:
		options := autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1}
		return plain(autoscalingvalidation.ValidateHorizontalPodAutoscaler(object, options))
	case *networking.NetworkPolicy:
		options := networkingvalidation.ValidationOptionsForNetworking(object, nil)
		return plain(networkingvalidation.ValidateNetworkPolicy(object, options))
	case *policy.PodDisruptionBudget:
		options := policyvalidation.PodDisruptionBudgetValidationOptions{}
		return plain(policyvalidation.ValidatePodDisruptionBudget(object, options))
	default:
		return []error{errors.New("the chart has no business with an object of this kind")}
	}
}

func warnings(template *core.PodTemplateSpec) (problems []error) {
	for _, text := range pod.GetWarningsForPodTemplate(context.Background(), field.NewPath("spec", "template"), template, nil) {
		problems = append(problems, fmt.Errorf("warning: %s", text))
	}
	return problems
}

func plain(list field.ErrorList) (problems []error) {
	for _, problem := range list {
		problems = append(problems, problem)
	}
	return problems
}

// podSecurity holds the pod that an object is or makes against the restricted standard.
func (c checker) podSecurity(object runtime.Object) (faults []string) {
	var metadata *metav1.ObjectMeta
	var spec *corev1.PodSpec
	switch object := object.(type) {
	case *appsv1.Deployment:
		metadata, spec = &object.Spec.Template.ObjectMeta, &object.Spec.Template.Spec
	case *batchv1.Job:
		metadata, spec = &object.Spec.Template.ObjectMeta, &object.Spec.Template.Spec
	case *corev1.Pod:
		metadata, spec = &object.ObjectMeta, &object.Spec
	default:
		return nil
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range c.security.EvaluatePod(restricted, metadata, spec) {
		if !result.Allowed {
			faults = append(faults, fmt.Sprintf("not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	return faults
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
