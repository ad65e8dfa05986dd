"""Dashboards hang on these names and labels."""

from tests.integration.fakes import fake_app, running

NAMES = {
    "http_requests_total": {"method", "route", "status"},
    "http_request_duration_seconds_bucket": {"method", "route", "le"},
    "http_requests_in_progress": set(),
    "pixeltier_requests_total": {"model", "tier", "outcome"},
    "pixeltier_stage_duration_seconds_bucket": {"model", "stage", "le"},
    "pixeltier_macs_dense_total": {"model", "tier"},
    "pixeltier_macs_executed_total": {"model", "tier"},
    "pixeltier_macs_expected_total": {"model", "tier"},
    "pixeltier_request_active_share_bucket": {"model", "tier", "le"},
    "pixeltier_active_share_calibrated_total": {"model", "tier"},
    "pixeltier_ready": set(),
    "process_cpu_seconds_total": set(),
    "pixeltier_request_macs_saved_ratio_bucket": {"model", "tier", "le"},
    "pixeltier_request_pixels_bucket": {"model", "le"},
    "pixeltier_latency_model_error_seconds_bucket": {"model", "le"},
    "pixeltier_latency_model_predicted_seconds_total": {"model"},
    "pixeltier_latency_model_actual_seconds_total": {"model"},
    "pixeltier_latency_targets_total": {"model", "result"},
    "pixeltier_queue_depth": set(),
    "pixeltier_queue_limit": set(),
    "pixeltier_queue_wait_estimate_seconds": set(),
    "pixeltier_workers": {"state"},
    "pixeltier_worker_restarts_total": {"reason"},
    "pixeltier_worker_resident_memory_bytes": {"worker"},
    "pixeltier_batch_size_bucket": {"model", "le"},
    "pixeltier_tier_threshold": {"model", "tier"},
    "pixeltier_config_version": set(),
    "pixeltier_config_reloads_total": {"result"},
    "pixeltier_degradations_total": {"model", "from_tier", "to_tier"},
    "pixeltier_brownout_level": set(),
    "pixeltier_shadow_comparisons_total": {"model", "result"},
    "pixeltier_shadow_agreements_total": set(),
    "pixeltier_shadow_psnr_db_bucket": {"le"},
    "pixeltier_shadow_ssim_bucket": {"le"},
    "pixeltier_shadow_macs_dense_total": {"model"},
    "pixeltier_shadow_macs_served_total": {"model"},
    "pixeltier_shadow_macs_candidate_total": {"model"},
    "pixeltier_build_info": {"version", "torch", "isa"},
}


async def test_names_and_labels() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async with running(fake_app()) as client:
        text = (await client.get("/metrics")).text
    found = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for name, labels in NAMES.items():
        assert found.get(name) == labels, name
