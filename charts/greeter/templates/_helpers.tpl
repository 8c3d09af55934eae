{{- define "greeter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects: the release's where that already says what it is. */}}
{{- define "greeter.fullname" -}}
{{- $name := include "greeter.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Quoted: a release may be called "y" or "1e3", which YAML takes for something else. */}}
{{- define "greeter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "greeter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "greeter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "greeter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: backend
app.kubernetes.io/part-of: pytest-grpclb
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/* A pod that is killed while it still answers loses calls, and nothing else would say why. */}}
{{- define "greeter.terminationGracePeriodSeconds" -}}
{{- $needed := add .Values.preStopSleepSeconds .Values.drainSeconds }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSleepSeconds and drainSeconds take %d together: pods would be killed while they answer; make it %d or more" (int .Values.terminationGracePeriodSeconds) (int $needed) (int $needed)) }}
{{- end }}
{{- int .Values.terminationGracePeriodSeconds }}
{{- end }}

{{/*
What keeps a mesh's proxy out of a pod: it would pick the backends itself, and what is measured is
the mesh. Istio, with and without sidecars, and Kuma go by labels; Linkerd and Consul by annotations.
*/}}
{{- define "greeter.noMeshLabels" -}}
sidecar.istio.io/inject: "false"
istio.io/dataplane-mode: none
kuma.io/sidecar-injection: disabled
{{- end }}

{{- define "greeter.noMeshAnnotations" -}}
linkerd.io/inject: disabled
consul.hashicorp.com/connect-inject: "false"
{{- end }}
