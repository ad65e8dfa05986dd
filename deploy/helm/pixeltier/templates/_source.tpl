{{/* A file of deploy/kubernetes: (dict "root" $ "path" "base/service.yaml"). */}}
{{- define "pixeltier.source" -}}
{{- $text := .root.Files.Get (printf "files/%s" .path) -}}
{{- if not (contains "apiVersion:" $text) -}}
{{- fail (printf "files/%s is missing: files/ has symbolic links into deploy/, which this copy of the chart has lost" .path) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* The same, named and labelled for this release. */}}
{{- define "pixeltier.resource" -}}
{{- $it := include "pixeltier.source" . | fromYaml -}}
{{- $name := printf "%s%s" (include "pixeltier.fullname" .root) (trimPrefix "pixeltier" $it.metadata.name) -}}
{{- $labels := merge (dict) (.labels | default dict) (include "pixeltier.labels" .root | fromYaml) -}}
{{- $_ := set $it "metadata" (dict "name" $name "namespace" .root.Release.Namespace "labels" $labels) -}}
{{- toYaml $it -}}
{{- end -}}

{{/* A strategic merge, in place: maps are merged, named lists of a pod are extended, anything else is replaced. */}}
{{- define "pixeltier.merge" -}}
{{- $onto := .onto -}}
{{- range $key, $new := .patch -}}
{{- $old := get $onto $key -}}
{{- if and (kindIs "map" $new) (kindIs "map" $old) -}}
{{- include "pixeltier.merge" (dict "onto" $old "patch" $new) -}}
{{- else if and (kindIs "slice" $old) (has $key (list "env" "tolerations" "volumeMounts" "volumes")) -}}
{{- $_ := set $onto $key (concat $old $new) -}}
{{- else if and (kindIs "slice" $old) (eq $key "containers") -}}
{{- include "pixeltier.merge" (dict "onto" (first $old) "patch" (first $new)) -}}
{{- else -}}
{{- $_ := set $onto $key $new -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A patch of deploy/kubernetes, its spec alone: (dict "root" $ "path" ... "onto" resource). */}}
{{- define "pixeltier.patch" -}}
{{- $patch := include "pixeltier.source" . | fromYaml -}}
{{- include "pixeltier.merge" (dict "onto" .onto.spec "patch" $patch.spec) -}}
{{- end -}}
