{{/*
What values.schema.json can't say: rules between two values. Each message names the values and what to do.
*/}}
{{- define "creditd.checks" -}}
{{- $name := include "creditd.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "%q can't be the name of a Service, which begins with a letter: set fullnameOverride" $name) }}
{{- end }}

{{- $drain := ternary .Values.config.CREDITD_DRAIN_GRACE_S 20 (hasKey .Values.config "CREDITD_DRAIN_GRACE_S") }}
{{- $stop := addf .Values.preStopSeconds $drain }}
{{- if le (float64 .Values.terminationGracePeriodSeconds) (float64 $stop) }}
{{- fail (printf "terminationGracePeriodSeconds is %v, and must be more than preStopSeconds (%v) and config.CREDITD_DRAIN_GRACE_S (%v) together: calls in flight would be killed" .Values.terminationGracePeriodSeconds .Values.preStopSeconds $drain) }}
{{- end }}

{{- $least := int .Values.replicaCount }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- $least = int .minReplicas }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %v, which is more than autoscaling.maxReplicas, %v" .minReplicas .maxReplicas) }}
{{- end }}
{{- if and (not .targetCPUUtilizationPercentage) (not .metrics) }}
{{- fail "autoscaling has nothing to go by: set autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics" }}
{{- end }}
{{- if and .targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $.Values.resources)) }}
{{- fail "autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu, which is not set" }}
{{- end }}
{{- end }}
{{- end }}

{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (not (kindIs "string" .minAvailable)) (gt $least 0) (ge (int .minAvailable) $least) }}
{{- fail (printf "podDisruptionBudget.minAvailable is %v of %v replicas: no node could be drained; set it lower, or use maxUnavailable" .minAvailable $least) }}
{{- end }}
{{- end }}
{{- end }}
