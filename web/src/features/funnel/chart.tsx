import { FunnelChart as FunnelSeries } from "echarts/charts";
import { AriaComponent } from "echarts/components";
import { init, use as register, type EChartsType } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { useEffect, useRef } from "react";
import { useText } from "@/i18n";
import type { FunnelStage } from "@/kit/funnel";
import { formatShort } from "@/kit/money";
import { useTheme } from "@/kit/theme";
import { useNarrow } from "@/kit/viewport";

register([FunnelSeries, AriaComponent, SVGRenderer]);

const COLOURS = ["--chart-1", "--chart-2", "--chart-4", "--chart-3"];

/** The words stand on and beside the shapes, and a pattern tells them apart without colour. */
export function FunnelChart({ stages }: { stages: FunnelStage[] }) {
  const { t, language } = useText();
  const { theme } = useTheme();
  const narrow = useNarrow();
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (!box.current) return;
    const style = getComputedStyle(document.documentElement);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const chart: EChartsType = init(box.current, undefined, { renderer: "svg" });
    chart.setOption({
      animation: !still,
      aria: { enabled: true, decal: { show: true } },
      color: COLOURS.map((name) => style.getPropertyValue(name).trim()),
      series: [
        {
          type: "funnel",
          left: "4%",
          // On a phone the words need half of the width, and two lines.
          right: narrow ? "48%" : "34%",
          top: 8,
          bottom: 8,
          gap: 4,
          minSize: "14%",
          sort: "none",
          label: { position: "right", color: style.getPropertyValue("--ink").trim(), fontSize: 13 },
          labelLine: { length: 14, lineStyle: { color: style.getPropertyValue("--line-2").trim() } },
          data: stages.map((stage) => ({
            value: stage.count,
            name: `${stage.title}  ${stage.count}${narrow ? "\n" : "  "}${Object.entries(stage.amounts)
              .map(([currency, amount]) => formatShort(amount, currency, language))
              .join(" + ")}`,
          })),
        },
      ],
    });
    const watcher = new ResizeObserver(() => chart.resize());
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      chart.dispose();
    };
  }, [stages, language, theme, narrow]);

  return <div ref={box} className="chart" role="img" aria-label={t("funnel.picture")} />;
}
